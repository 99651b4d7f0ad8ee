"""Experiment -> flags: what a run folder keeps, what two experiments differ in, and where results go."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

from tfpt import __version__, config, flagfile
from tfpt.config import Component, Experiment
from tfpt.errors import UserError
from tfpt.fields import build, check_text, settings_of


def to_rows(experiment: Experiment) -> list[tuple[str, str]]:
    """Returns every flag of an experiment with its value as text, defaults too, in the order of the help."""
    return [(flag, value) for flag, value, _ in _rows(experiment)]


def changed_rows(experiment: Experiment) -> list[tuple[str, str, bool]]:
    """Returns every flag with its value as text and whether it was changed from its default."""
    return [(flag, value, not default) for flag, value, default in _rows(experiment)]


def write_flagfile(experiment: Experiment, path: Path) -> None:
    """Writes every value of an experiment and the version of tfpt; `flags.read_experiment` reads an equal one back.

    A component that was given as an object is written as `object:CLASS`.

    Raises:
        UserError: a value cannot be written on one line.
    """
    rows = to_rows(experiment)
    for flag, value in rows:
        try:
            check_text(value)
        except ValueError as error:
            raise UserError(f"{flag}={value!r}: {error}") from error
    if config.split_trunks(dict(rows)["backbone"]) != {name: str(c) for name, c in experiment.backbone.items()}:
        raise UserError(
            f"backbone={dict(rows)['backbone']}: trunks are named with small letters, digits and _, and where there are "
            "several no argument holds `,name=`."
        )
    flagfile.write(rows, path, comment=f"tfpt {__version__}: every setting of this experiment, defaults too.")


def read_group(path: Path, group: str) -> Any:
    """Returns one flag group of a file that `write_flagfile` wrote, without looking for the components named in it.

    Raises:
        UserError: the file is not right.
    """
    rows, cls = flagfile.read(path), config.GROUPS[group]
    given = {item.name: rows[item.flag].value or "" for item in settings_of(group, cls) if item.flag in rows}
    parsers = {item.name: item.parse for item in settings_of(group, cls)}
    try:
        values = {name: parsers[name](text) for name, text in given.items()}
    except ValueError as error:
        raise UserError(f"{path}: a setting of the group {group} {error}.") from error
    return build(cls, group, values)


def differences(a: Experiment, b: Experiment) -> list[str]:
    """Returns the names of the flags that differ, but for `output.if_exists`, which says what to do about it."""
    first, second = dict(to_rows(a)), dict(to_rows(b))
    return [
        flag
        for flag in dict.fromkeys([*first, *second])
        if flag != "output.if_exists" and first.get(flag) != second.get(flag)
    ]


def output_paths(experiment: Experiment, flagfile: Path | None = None) -> Experiment:
    """Fills in the name of the experiment and the folders that were left open.

    The name is the flag file's stem; without one, task, data and backbone and eight digits of a hash of every setting
    that is not at its default (so that settings added to a later tfpt do not change it).
    """
    output = experiment.output
    name = output.name or (flagfile.stem if flagfile else _made_name(experiment))
    return dataclasses.replace(
        experiment,
        output=dataclasses.replace(
            output,
            name=name,
            run_dir=output.run_dir or str(Path("runs") / name),
            model_dir=output.model_dir or str(Path("saved_models") / name),
        ),
    )


def _rows(experiment: Experiment) -> list[tuple[str, str, bool]]:
    """Returns flag, text and whether it is the default, for everything."""
    trunks = experiment.backbone
    several = set(trunks) != {config.DEFAULT_TRUNK}
    backbone = ",".join(f"{name}={trunk}" if several else str(trunk) for name, trunk in trunks.items())
    rows = [
        ("task", str(experiment.task), False),
        ("data", str(experiment.data), False),
        ("backbone", backbone, False),
        *_component_rows("task", experiment.task),
        *_component_rows("data", experiment.data),
    ]
    for name, trunk in trunks.items():
        rows += _component_rows(f"backbone.{name}" if several else "backbone", trunk)
    for group, cls in config.GROUPS.items():
        rows += _setting_rows(group, cls, getattr(experiment, group))
    return rows


def _component_rows(group: str, component: Component) -> list[tuple[str, str, bool]]:
    cls = component.config_class()
    return _setting_rows(group, cls, component.config or cls()) if cls else []


def _setting_rows(group: str, cls: type, values: Any) -> list[tuple[str, str, bool]]:
    return [
        (setting.flag, setting.text(value), value == setting.default)
        for setting in settings_of(group, cls)
        for value in (getattr(values, setting.name),)
    ]


def _made_name(experiment: Experiment) -> str:
    settings = [f"{flag}={text}" for flag, text, default in _rows(experiment) if not default and flag[:7] != "output."]
    digest = hashlib.sha256("\n".join(settings).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    parts = [experiment.task, experiment.data, *experiment.backbone.values()]
    return "-".join([*(_short(part) for part in parts), digest])


def _short(component: Component) -> str:
    """Returns the component's name and the last part of its argument, in characters that suit a folder name."""
    last = component.argument.rstrip("/").rpartition("/")[2]
    text = f"{component.name.rpartition('.')[2]}_{last}" if last else component.name.rpartition(".")[2]
    return re.sub(r"[^\w.]+", "_", text).strip("_.")[:40]

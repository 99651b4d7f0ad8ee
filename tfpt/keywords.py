"""Keyword arguments of `tfpt.fit` -> experiment. The names are the flags'; nothing is read from `sys.argv`."""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

from tfpt import config, presets, registry
from tfpt.config import Component, Experiment
from tfpt.errors import UserError
from tfpt.fields import build, refusal, settings_of
from tfpt.foreign_names import FOREIGN_NAMES
from tfpt.record import output_paths


def experiment_from_kwargs(*, task: Any, data: Any, backbone: Any, **options: Any) -> Experiment:
    """Makes an experiment from keyword arguments.

    Args:
        task: `"name:argument"`, or the object itself.
        data: the same.
        backbone: the same; several trunks as `"left=tiny:conv,right=tiny:conv"` or as a dictionary by trunk name.
        **options: fields of the flag groups by their own name (`epochs=2`, `batch_size=64`), a group as a dictionary
            (`optim={"name": "sgd"}`) or as its dataclass, and the components' settings as `task_options`,
            `data_options`, `backbone_options` (for several trunks: settings for all, or a dictionary for each by its
            name).

    Raises:
        UserError: a name or a value is not allowed.
    """
    parts = {kind: options.pop(f"{kind}_options", {}) for kind in config.KINDS}
    preset = options.pop("preset", "")
    groups: dict[str, Any] = {name: {} for name in config.GROUPS}
    for name, value in options.items():
        if name in groups and not isinstance(value, Mapping | config.GROUPS[name]):
            raise UserError(f"{name}={value!r}: write {name}={{...}} with the settings of the group {name}.")
    for name in [name for name in options if name in groups]:
        groups[name] = options[name]
    for name, value in options.items():
        if name not in groups:
            group, field = _find_field(name)
            if not isinstance(groups[group], Mapping) or field in groups[group]:
                raise UserError(f"{name} is given twice, by itself and in {group}.")
            groups[group] = {**groups[group], field: value}
    if preset:
        made = _component("task", task, parts["task"])
        modalities = (made.instance or registry.find("task", made.name)).modalities
        for flag, value in presets.flags_of(preset, modalities).items():
            group, _, field = flag.partition(".")
            if not isinstance(groups[group], Mapping):
                raise UserError(f"{group}: a preset needs its settings as a dictionary.")
            groups[group] = {field: value, **groups[group]}
    trunks = _trunks(backbone)
    experiment = Experiment(
        task=_component("task", task, parts["task"]),
        data=_component("data", data, parts["data"]),
        backbone={
            name: _component("backbone", reference, _options_of(name, trunks, parts["backbone"]))
            for name, reference in trunks.items()
        },
        **{name: _make(config.GROUPS[name], name, values) for name, values in groups.items()},
    )
    return output_paths(experiment)


def _find_field(name: str) -> tuple[str, str]:
    """Returns the flag group and the field that a bare keyword names."""
    fields = {
        group: [field.name for field in dataclasses.fields(cls) if not field.metadata["in_group"]]
        for group, cls in config.GROUPS.items()
    }
    owners = [group for group, names in fields.items() if name in names]
    if len(owners) == 1:
        return owners[0], name
    if owners:
        ways = " or ".join(f'{group}={{"{name}": ...}}' for group in owners)
        raise UserError(f"{name}: {' and '.join(owners)} each have it; write {ways}.")
    ours = FOREIGN_NAMES.get(name.lower())
    if ours:
        flag, _, value = ours.partition("=")
        head, _, last = flag.rpartition(".")
        right = f"{last}={value}" if value else last
        right = f"{head}_options={{...}} with {last}" if head in config.KINDS else right
        raise UserError(f"{name}: there is no such keyword; write {right}.")
    known = [*(field for names in fields.values() for field in names), *(f"{kind}_options" for kind in config.KINDS)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" did you mean {close[0]}?" if close else f" settings are {', '.join(sorted(set(known)))}."
    raise UserError(f"{name}: there is no such keyword;{hint}")


def _trunks(backbone: Any) -> dict[str, Any]:
    if isinstance(backbone, str):
        return dict(config.split_trunks(backbone))
    return dict(backbone) if isinstance(backbone, Mapping) else {config.DEFAULT_TRUNK: backbone}


def _options_of(trunk: str, trunks: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    if options and set(options) <= set(trunks) and all(isinstance(value, Mapping) for value in options.values()):
        return options.get(trunk, {})
    return options


def _component(kind: str, given: Any, options: Any) -> Component:
    if isinstance(given, os.PathLike):
        raise UserError(f'{kind}={given!r}: write {kind}="NAME:{os.fspath(given)}", with the name of a {kind}.')
    if isinstance(given, str):
        given = Component.parse(kind, given)
    if isinstance(given, Component):
        cls = given.config_class()
        if cls is None or (given.config is not None and not options):
            return given
        return dataclasses.replace(given, config=_make(cls, kind, options))
    if options:
        raise UserError(
            f"{kind}_options: {kind} is an object of the class {type(given).__name__}; it has its own settings."
        )
    return Component.given(kind, given)


def _make(cls: type, group: str, values: Any) -> Any:
    """Makes a config dataclass from a dictionary; an object of the class stays as it is."""
    if isinstance(values, cls):
        return values
    settings = {setting.name: setting for setting in settings_of(group, cls)}
    checked = {}
    for name, value in values.items():
        if name not in settings:
            close = difflib.get_close_matches(name, settings, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(settings) or 'none'}."
            raise UserError(f"{group}.{name}: there is no such setting; {hint}")
        try:
            checked[name] = settings[name].coerce(value)
        except ValueError as error:
            raise refusal(f"{group}.{name}", str(value), str(error), prefix="") from error
    return build(cls, group, checked, prefix="")

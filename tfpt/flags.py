"""Command line and flag file -> experiment. The fields of the config dataclasses are the flags; there is no other list.

Two passes: the first finds only `--task`, `--data` and `--backbone`; the classes that they name bring the flags of their
groups, and the second pass reads everything.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from tfpt import config, presets, programs, registry
from tfpt.config import Component, Experiment, setting
from tfpt.errors import UserError
from tfpt.fields import Setting, build, refusal, settings_of
from tfpt.flagfile import Given, expand_home, read
from tfpt.keywords import experiment_from_kwargs
from tfpt.record import differences, output_paths, to_rows, write_flagfile
from tfpt.unknown_flag import advice

__all__ = [
    "Parsed",
    "differences",
    "experiment_from_kwargs",
    "output_paths",
    "parse",
    "read_experiment",
    "settings_for_help",
    "to_rows",
    "write_flagfile",
]

COMMAND_LINE = "command line"
HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")
"""What asks for the help page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare:
    """The experiment, and how this program runs."""

    flagfile: str = setting("", "A file with one --flag=value a line; flags on the command line beat it.")
    preset: str = setting(
        "",
        "Settings that belong together: quick, strong, bit_small, bit_medium or bit_large; what is given by itself wins.",
    )
    task: str = setting("", "What is learned: NAME or NAME:ARGUMENT.")
    data: str = setting("", "What it is learned from: NAME:ARGUMENT.")
    backbone: str = setting(
        "", "The pretrained network it stands on: NAME:ARGUMENT; several: left=NAME:A,right=NAME:B."
    )
    model: str = setting("", "An exported model: its folder, or one of its version folders.")
    compress: str = setting(
        "",
        "How `tfpt compress` makes a model smaller: quantize:int8, quantize:float16, quantize:dynamic, prune:0.5 or distill.",
    )
    text: str = setting("", "A text for `tfpt predict` to answer; two texts with ||| between them.")
    trust: str = setting("", "Package outside tfpt whose code a model may use; several with commas.")
    dry_run: bool = setting(False, "Walk one example through every station, print shapes and ranges, and stop.")
    offline: bool = setting(
        False, "Never use the network; TFPT_OFFLINE=1 in the environment says so for every program."
    )
    json: bool = setting(False, "Print results as JSON.")
    debug: bool = setting(False, "Show the traceback of an error.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """What the command line and the flag file say.

    Attributes:
        experiment: None where the program needs none and task, data or backbone was not given. Its output paths are
            filled in.
        task: the component, or None when it was not given.
        data: the same.
        backbone: trunk name -> component; empty when none was given.
        options: flag group -> its dataclass, for the common groups (`input`, ...) and the program's own.
        given: the flags that were given in the file or on the command line.
        paths: the arguments that are no flags.
        flagfile: the file that was named, or None.
        model: `--model`, or an empty text.
        notes: what the user is told of the preset.
    """

    experiment: Experiment | None
    task: Component | None
    data: Component | None
    backbone: Mapping[str, Component]
    options: Mapping[str, Any]
    given: frozenset[str]
    paths: tuple[str, ...] = ()
    flagfile: Path | None = None
    model: str = ""
    compress: str = ""
    text: str = ""
    trust: tuple[str, ...] = ()
    dry_run: bool = False
    offline: bool = False
    json: bool = False
    debug: bool = False
    notes: tuple[str, ...] = ()


def parse(
    argv: Sequence[str],
    *,
    program: str = "train",
    groups: Mapping[str, type] | None = None,
    need_experiment: bool = True,
    positional: bool = False,
) -> Parsed:
    """Parses the arguments of a program.

    Args:
        argv: the arguments, without the program's name.
        program: its name, for sentences.
        groups: its own flag groups.
        need_experiment: whether task, data and backbone must be given.
        positional: whether it takes arguments that are no flags.

    Raises:
        UserError: anything is wrong.
    """
    groups = groups or {}
    from_file, chosen = _first_pass(argv)
    components = _components(chosen)
    settings = _settings(components, {**_groups_in(from_file, groups), **groups})
    command_line, paths = _tokens(argv, settings, components, program, positional)
    given = {**from_file, **command_line}
    preset, notes = _preset(given, components)
    given = {**preset, **given}
    for entry in given.values():
        if entry.name not in settings:
            raise _unknown(entry, settings, components, program)
    values = _absl_values(settings, given)

    def make(group: str, cls: type | None, shared: str = "") -> Any:
        fields, sources = {}, {}
        for item in settings_of(group, cls):
            for flag in (f"{shared}.{item.name}", item.flag):
                if flag in given:
                    fields[item.name], sources[item.name] = values[flag].value, given[flag].source
        return build(cls, group, fields, sources=sources) if cls else None

    options = {name: make(name, cls) for name, cls in {**config.GROUPS, **groups}.items()}
    made = {
        group: dataclasses.replace(component, config=make(group, component.config_class(), group.partition(".")[0]))
        for group, component in components.items()
    }
    trunks = {_trunk_name(group): component for group, component in made.items() if component.kind == "backbone"}
    bare = make("", Bare)
    flagfile = Path(bare.flagfile) if bare.flagfile else None
    experiment = None
    missing = [kind for kind in ("task", "data", "backbone") if kind not in given]
    if not missing:
        common = {name: options[name] for name in config.GROUPS}
        experiment = Experiment(task=made["task"], data=made["data"], backbone=trunks, **common)
        experiment = output_paths(experiment, flagfile)
    elif need_experiment:
        raise UserError(
            f"--{missing[0]} is missing: write --{missing[0]}=NAME (there are {', '.join(registry.names(missing[0]))}), "
            f"or give a file with --flagfile=FILE; `tfpt {program} --help` shows more."
        )
    return Parsed(
        experiment=experiment,
        task=made.get("task"),
        data=made.get("data"),
        backbone=trunks,
        options=options,
        given=frozenset(given),
        notes=notes,
        paths=tuple(paths),
        flagfile=flagfile,
        trust=tuple(filter(None, bare.trust.split(","))),
        **{name: getattr(bare, name) for name in ("model", "compress", "text", "dry_run", "offline", "json", "debug")},
    )


def read_experiment(path: Path) -> Experiment:
    """Reads the experiment that `write_flagfile` wrote.

    Raises:
        UserError: the file is not right.
    """
    experiment = parse([f"--flagfile={path}"]).experiment
    assert experiment is not None  # parse refuses a missing task, data or backbone
    return experiment


def settings_for_help(argv: Sequence[str], groups: Mapping[str, type]) -> dict[str, list[Setting]]:
    """Returns flag group -> settings, with the groups of the components that the arguments choose."""
    components = _components(_first_pass([token for token in argv if token not in HELP])[1])
    sections: dict[str, list[Setting]] = {}
    for item in _settings(components, groups).values():
        sections.setdefault(item.group, []).append(item)
    return sections


def _first_pass(argv: Sequence[str]) -> tuple[dict[str, Given], dict[str, Given]]:
    """Returns the flags of the flag file, and task, data and backbone as far as they are given anywhere."""
    wanted = ("flagfile", "task", "data", "backbone")
    seen = {}
    for position, token in enumerate(argv):
        if token == "--":
            break
        name, equals, value = token.removeprefix("--").partition("=")
        if token.startswith("--") and name in wanted:
            following = argv[position + 1] if position + 1 < len(argv) else "--"
            if not equals and following.startswith("--"):
                raise UserError(f"--{name} needs a value: write --{name}=VALUE.")
            seen[name] = Given(name, expand_home(value if equals else following), COMMAND_LINE)
    from_file = read(Path(seen["flagfile"].value or "")) if "flagfile" in seen else {}
    return from_file, {name: entry for name, entry in {**from_file, **seen}.items() if name in wanted[1:]}


def _components(chosen: Mapping[str, Given]) -> dict[str, Component]:
    """Returns flag group (`task`, `data`, `backbone`, or `backbone.left` where there are several trunks) -> component."""
    found = {}
    for kind, entry in chosen.items():
        text = entry.value or ""
        trunks = config.split_trunks(text) if kind == "backbone" else {config.DEFAULT_TRUNK: text}
        for trunk, reference in trunks.items():
            group = kind if trunk == config.DEFAULT_TRUNK else f"{kind}.{trunk}"
            try:
                found[group] = Component.parse(kind, reference)
            except UserError as error:
                if entry.source == COMMAND_LINE:
                    raise
                raise UserError(f"{entry.source}: {error}") from error
    return found


def _preset(
    given: Mapping[str, Given], components: Mapping[str, Component]
) -> tuple[dict[str, Given], tuple[str, ...]]:
    """Returns the flags of the preset that were not given otherwise, and what the user is told of them."""
    name = given["preset"].value if "preset" in given else None
    if not name:
        return {}, ()
    if "task" not in components:
        raise UserError(f"--preset={name} depends on the task: write --task=NAME, too.")
    task = components["task"]
    flags = presets.flags_of(name, registry.find("task", task.name).modalities)
    fresh = {flag: value for flag, value in flags.items() if flag not in given}
    made = {flag: Given(flag, value, f"--preset={name}") for flag, value in fresh.items()}
    return made, presets.describe(name, fresh)


def _trunk_name(group: str) -> str:
    return group.partition(".")[2] or config.DEFAULT_TRUNK


def _groups_in(from_file: Mapping[str, Given], groups: Mapping[str, type]) -> dict[str, type]:
    """Returns the groups of other programs that a flag file sets: every program reads the same file."""
    found: dict[str, type] = {}
    wanted = {name.partition(".")[0] for name in from_file if "." in name} - {*config.GROUPS, *groups, *config.KINDS}
    for program in wanted & set(programs.descriptions() if wanted else ()):
        found |= programs.groups(program)
    return found


def _settings(components: Mapping[str, Component], groups: Mapping[str, type]) -> dict[str, Setting]:
    """Returns flag -> setting, for every flag there is."""
    found = settings_of("", Bare)
    for group, component in components.items():
        kind = group.partition(".")[0]
        if kind != group:
            found += settings_of(kind, component.config_class())  # one flag for all trunks, and one for each
        found += settings_of(group, component.config_class())
    for group, cls in {**groups, **config.GROUPS}.items():
        found += settings_of(group, cls)
    return {item.flag: item for item in found}


def _tokens(
    argv: Sequence[str],
    settings: Mapping[str, Setting],
    components: Mapping[str, Component],
    program: str,
    positional: bool,
) -> tuple[dict[str, Given], list[str]]:
    """Splits the command line into flags and other arguments."""
    found: dict[str, Given] = {}
    paths: list[str] = []
    position = 0
    while position < len(argv):
        token = argv[position]
        position += 1
        if token == "--" and positional:
            paths += argv[position:]
            break
        if not token.startswith("-") or token == "-":
            switch = argv[position - 2].removeprefix("--") if position > 1 else ""
            bare = switch in found and found[switch].value is None
            if bare and token.lower() in ("true", "false", "yes", "no", "on", "off", "0", "1"):
                raise UserError(f"{token}: write --{switch}={token}.")
            if not positional:
                raise UserError(
                    f"{token}: tfpt {program} takes flags only; a value stands behind =, as in --flag=value."
                )
            paths.append(token)
            continue
        if not token.startswith("--"):
            raise UserError(f"{token}: flags start with two dashes; write -{token}.")
        name, equals, text = token[2:].partition("=")
        value: str | None = expand_home(text) if equals else None
        if name not in settings:
            raise _unknown(Given(name, value, COMMAND_LINE), settings, components, program)
        if value is None and not settings[name].is_switch:
            if position == len(argv) or argv[position].startswith("--"):
                raise UserError(f"--{name} needs a value: write --{name}=VALUE.")
            value = expand_home(argv[position])
            position += 1
        if name in found:
            first, second = (f"--{name}" if v is None else f"--{name}={v}" for v in (found[name].value, value))
            raise UserError(f"{second}: the command line holds {first} already; keep one.")
        found[name] = Given(name, value, COMMAND_LINE)
    return found, paths


class _Parser(absl_flags.ArgumentParser[Any]):
    """Lets absl parse a flag the way its setting says."""

    def __init__(self, item: Setting) -> None:
        self.item = item

    def parse(self, argument: Any) -> Any:
        """Returns the value; absl hands over the default, too, which is no text."""
        return self.item.parse(argument) if isinstance(argument, str) and argument != self.item.default else argument


class _Serializer(absl_flags.ArgumentSerializer[Any]):
    def __init__(self, item: Setting) -> None:
        self.item = item

    def serialize(self, value: Any) -> str:
        return self.item.text(value)


def _absl_values(settings: Mapping[str, Setting], given: Mapping[str, Given]) -> absl_flags.FlagValues:
    """Makes absl flags of the settings, in a `FlagValues` of their own, and sets those that were given."""
    values = absl_flags.FlagValues()
    for name, item in settings.items():
        absl_flags.DEFINE(_Parser(item), name, item.default, item.help, values, _Serializer(item))
    for name, entry in given.items():
        text = entry.value
        if text is None and not settings[name].is_switch:
            raise UserError(f"{entry.source}: --{name} needs a value: write --{name}=VALUE.")
        try:
            values[name].parse("true" if text is None else text)
        except absl_flags.IllegalFlagValueError as error:
            raise refusal(name, text or "", str(error.__context__), source=entry.source) from error
    values.mark_as_parsed()
    return values


def _unknown(
    entry: Given, settings: Mapping[str, Setting], components: Mapping[str, Component], program: str
) -> UserError:
    place = "" if entry.source == COMMAND_LINE else f"{entry.source}: "
    return UserError(f"{place}--{entry.name}: {advice(entry.name, settings, components, program)}")

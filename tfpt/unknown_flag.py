"""What to say about a flag that does not exist: what was probably meant."""

import difflib
from collections.abc import Mapping

from tfpt import config, programs
from tfpt.config import Component
from tfpt.fields import Setting
from tfpt.foreign_names import FOREIGN_NAMES


def advice(given: str, settings: Mapping[str, Setting], components: Mapping[str, Component], program: str) -> str:
    """Returns the rest of the sentence that starts with the flag.

    Args:
        given: the flag, without dashes.
        settings: every flag there is.
        components: flag group -> the component that was chosen.
        program: the program that was started.
    """
    name = given.replace("-", "_")
    ours = FOREIGN_NAMES.get(name.lower(), "")
    group, _, last = name.rpartition(".")
    if name in settings and name != given:
        return f"write --{name}."
    negated = name[2:].lstrip("_") if name.startswith("no") else ""
    if negated in settings and settings[negated].is_switch:
        return f"write --{negated}=false."
    namesakes = [item.flag for item in settings.values() if item.name == last and not item.hidden]
    if not group and namesakes:
        return "write " + " or ".join(f"--{flag}" for flag in namesakes) + "."
    if ours:
        return f"there is no such flag; write --{ours}."
    kind = name.partition(".")[0]
    if kind in config.KINDS and group:
        chosen = [component for of, component in components.items() if of.partition(".")[0] == kind]
        if not chosen:
            return f"it belongs to a {kind}, and none is chosen; write --{kind}=NAME as well."
        there = [f"--{flag}" for flag in settings if flag.startswith(f"{kind}.")]
        named = " and ".join(component.name for component in chosen)
        close = difflib.get_close_matches(f"--{name}", there, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        return f"{kind} {named} has " + (", ".join(there) if there else "no settings") + hint
    if group and group not in {item.group for item in settings.values()} and group in programs.descriptions():
        return f"it belongs to `tfpt {group}`."
    close = difflib.get_close_matches(name, settings, n=1) or [
        item.flag for item in settings.values() if difflib.get_close_matches(last, [item.name], n=1, cutoff=0.75)
    ]
    if close:
        return f"there is no such flag; did you mean --{close[0]}?"
    return f"there is no such flag; `tfpt {program} --help` lists them."

"""The page that `--help` prints."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from tfpt import config, registry
from tfpt.fields import Setting


def help_page(
    sections: Mapping[str, Sequence[Setting]],
    *,
    program: str,
    about: str,
    example: str,
    groups: Mapping[str, type],
    positional: str = "",
) -> str:
    """Returns the page, wrapped to the width of the terminal.

    Args:
        sections: flag group -> its settings; the groups of chosen components among them.
        program: its name.
        about: what it does.
        example: a command line.
        groups: its own flag groups, shown first.
        positional: how its other arguments are shown.
    """
    width = max(40, min(shutil.get_terminal_size().columns, 110))
    usage = f"tfpt {program} [--flag=value ...]" + (f" {positional}" if positional else "")
    pieces = [usage, "", *_paragraphs(about, width), "", "Example:", f"  {example}", ""]
    ahead = {"": 0} | dict.fromkeys(groups, 1) | dict.fromkeys(config.KINDS, 2)
    headings = {**{name: cls.__doc__ for name, cls in {**config.GROUPS, **groups}.items()}, "": "Every program has"}
    for group in sorted(sections, key=lambda group: ahead.get(group.partition(".")[0], 3)):
        shown = [setting for setting in sections[group] if not setting.hidden]
        if not shown:
            continue
        doc = (headings.get(group) or f"Settings of the chosen {group.partition('.')[0]}").strip().splitlines()[0]
        pieces += [f"{group}: {doc}" if group else f"{doc}:", ""]
        for setting in shown:
            pieces += _entry(setting, width)
        pieces.append("")
        if not group:
            pieces += [*_components(width, set(sections)), ""]
    return "\n".join(pieces).rstrip()


def _paragraphs(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        lines += (
            ["", *textwrap.wrap(" ".join(paragraph.split()), width)]
            if lines
            else textwrap.wrap(" ".join(paragraph.split()), width)
        )
    return lines


def _entry(setting: Setting, width: int) -> list[str]:
    default = setting.text(setting.default)
    choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
    named = all(choice in setting.help for choice in setting.choices)
    text = setting.help + ("" if named else choices)
    head = f"  --{setting.flag}" + ("" if setting.is_switch and not setting.default else f"={default}")
    return [head, *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _components(width: int, groups: set[str]) -> list[str]:
    intro = "Components (`tfpt list` says more; --X=NAME --help shows the settings --X.field of that one):"
    lines = [*textwrap.wrap(intro, width), ""]
    for kind in config.KINDS:
        lines += textwrap.wrap(
            ", ".join(registry.names(kind)) or "none",
            width,
            initial_indent=f"  --{kind + '=':<10}",
            subsequent_indent=" " * 14,
        )
    return lines

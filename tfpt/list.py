"""Lists what there is to choose from: tasks, data sources, backbones, augmentations and pretrained weights."""

import inspect
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from tfpt import app, flags, registry
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "List tasks, data sources, backbones, augmentations and pretrained weights."

_KINDS = {
    "tasks": "task",
    "data": "data",
    "backbones": "backbone",
    "augment": "augment",
    "trackers": "tracker",
    "formats": "format",
    "compressions": "compress",
    "weights": "weights",
}
"""What a user writes -> the registry's kind; weights have a catalogue of their own."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _list,
        program="list",
        about=f"{__doc__} The kinds are {', '.join(_KINDS)}; without one, all but the weights are listed.",
        example="tfpt list backbones",
        need_experiment=False,
        positional="[KIND...]",
        argv=argv,
    )


def entries(kind: str) -> list[dict[str, Any]]:
    """Returns what there is of a kind (`tasks`, `data`, ...), as plain values."""
    if kind == "weights":
        from tfpt.weights.catalogue import CATALOGUE

        return [
            {"name": name, "variants": [], "about": f"{entry.licence}, {entry.size / 1e6:.1f} MB: {entry.origin}"}
            if entry.size
            else {"name": name, "variants": [], "about": f"{entry.licence}: {entry.origin}"}
            for name, entry in sorted(CATALOGUE.items())
        ]
    found = []
    for name in registry.names(_KINDS[kind]):
        cls = registry.find(_KINDS[kind], name)
        variants = list(cls.variants()) if hasattr(cls, "variants") else []
        found.append({"name": name, "variants": variants, "about": (inspect.getdoc(cls) or "").split("\n")[0]})
    return found


def _list(parsed: flags.Parsed, console: Console) -> None:
    plurals = {**{kind: kind for kind in _KINDS}, **{singular: kind for kind, singular in _KINDS.items()}}
    for asked in parsed.paths:
        if asked not in plurals:
            raise UserError(f"{asked}: there is no such kind; there are {', '.join(_KINDS)}.")
    kinds = list(dict.fromkeys(plurals[asked] for asked in parsed.paths)) or [
        kind for kind in _KINDS if kind != "weights"
    ]
    listed = {kind: entries(kind) for kind in kinds}
    if parsed.json:
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for position, (kind, rows) in enumerate(listed.items()):
        if len(listed) > 1:
            console.say(f"{chr(10) if position else ''}{kind}")
        for row in rows:
            console.say(f"  {row['name']}: {row['about']}")
            if row["variants"]:
                console.say(f"      {', '.join(map(str, row['variants']))}")


if __name__ == "__main__":
    main()

"""Puts finished runs beside each other: a row an experiment, the flags in which they differ, metrics with intervals.

Runs that differ only in their seed are one row: mean, and an interval or the range over seeds.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flags
from tfpt.config import check, setting
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "Compare runs in a table."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `table`."""

    format: str = setting("text", "How it is written.", choices=("text", "csv", "markdown", "latex"))
    metrics: tuple[str, ...] = setting(
        (), "Which metrics, such as accuracy,loss; all: every one; empty: the primary one."
    )
    flags: tuple[str, ...] = setting((), "Which settings, such as backbone,train.epochs; empty: those that differ.")
    split: str = setting(
        "auto", "What was measured; auto: test where every run has it.", choices=("auto", "test", "validation")
    )
    spread: str = setting(
        "interval",
        "What stands beside the mean over several seeds: interval (95 % of the mean, by Student's t) or range (smallest and largest).",
        choices=("interval", "range"),
    )
    digits: int = setting(4, "Digits behind the point; csv holds all of them.")

    def __post_init__(self) -> None:
        check(0 <= self.digits <= 17, f"digits: {self.digits} is not between 0 and 17")


GROUPS = {"table": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _table,
        program="table",
        about=__doc__ or "",
        example="tfpt table runs/first runs/second sweeps/mine --table.format=latex",
        groups=GROUPS,
        need_experiment=False,
        positional="RUN...",
        argv=argv,
    )


def _table(parsed: flags.Parsed, console: Console) -> None:
    from tfpt.compare_runs import as_json, compare, find_runs
    from tfpt.table_formats import FORMATS

    options = parsed.options["table"]
    if not parsed.paths:
        raise UserError("Write the run folders to compare, or a folder that holds some: tfpt table runs.")
    runs, notes = find_runs(map(Path, parsed.paths))
    if not runs:
        raise UserError(f"None of the runs in {', '.join(parsed.paths)} has results yet.")
    table = compare(
        runs, metrics=options.metrics, flags=options.flags, split=options.split, spread=options.spread, notes=notes
    )
    if parsed.json:
        print(json.dumps(as_json(table), indent=1, ensure_ascii=False))
    else:
        print(FORMATS[options.format](table, names=True, digits=options.digits))
    aside = console if options.format == "text" and not parsed.json else Console(stream=sys.stderr)
    for note in table.notes:
        aside.say(note)


if __name__ == "__main__":
    main()

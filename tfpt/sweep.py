"""Trains a grid of experiments, a run folder a cell, and puts them into a table.

The grid is written FLAG=VALUE,VALUE,... with spaces between flags; any setting of an experiment may be one, the backbone,
too. Values that hold commas stand in square brackets: input.split=[70,15,15],[80,10,10]. What is finished is not trained
again, so a sweep that was stopped, or got more values, does only what is left. A cell that fails does not stop the others.
"""

import contextlib
import dataclasses
import functools
import gc
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfpt import app, flags
from tfpt.config import setting
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.grid import Cell, cells, parse_axes, parse_shard

if TYPE_CHECKING:
    from tfpt.compare_runs import Table

PROGRAM = "Train a grid of experiments and compare them."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `sweep`."""

    over: str = setting("", "The grid: optim.learning_rate=1e-3,1e-4 train.seed=0,1")
    shard: str = setting("1/1", "Which part of the cells this process trains: 2/4 is the second of four.")
    output: str = setting("", "Folder of the cells' run folders; default: sweeps/NAME.")
    publish: bool = setting(False, "Export the model of each cell; otherwise `tfpt export` does it for the chosen one.")

    def __post_init__(self) -> None:
        try:
            parse_shard(self.shard)
        except ValueError as error:
            raise ValueError(f"shard: {error}") from error


GROUPS = {"sweep": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    app.run(
        functools.partial(_sweep, arguments),
        program="sweep",
        about=__doc__ or "",
        example='tfpt sweep --flagfile=mine.flags --sweep.over="optim.learning_rate=1e-3,1e-4 train.seed=0,1"',
        groups=GROUPS,
        need_experiment=False,
        argv=arguments,
    )


def _sweep(argv: Sequence[str], parsed: flags.Parsed, console: Console) -> int:
    options = parsed.options["sweep"]
    axes = parse_axes(options.over)
    folder = Path(options.output) if options.output else None
    grid = cells(axes, argv, groups=GROUPS, folder=folder, publish=options.publish)
    shard, shards = parse_shard(options.shard)
    mine = grid[shard - 1 :: shards]
    app.start_tensorflow(grid[0].experiment.runtime.threads)
    failed = train_cells(mine, console=console, offline=parsed.offline)
    table = _table(grid, [flag for flag in axes if flag != "train.seed"])
    if parsed.json:
        from tfpt.compare_runs import as_json

        print(json.dumps({"cells": as_json(table) if table else [], "failed": failed}, indent=1, ensure_ascii=False))
    _tell(table, failed, mine[0].folder.parent if mine else None, console)
    return app.FAILED if failed else app.DONE


def train_cells(mine: Sequence[Cell], *, console: Console, offline: bool = False) -> dict[str, str]:
    """Trains the cells that are not finished, those that were begun before and not brought to their end last: if it was
    they that brought an earlier sweep down, the others are done by then.

    Args:
        mine: the cells.
        console: talks to the user; each cell has a log of its own.
        offline: never use the network.

    Returns:
        Cell -> what went wrong, for those that failed.
    """
    import keras

    from tfpt.run import fit_experiment
    from tfpt.training.run_folder import RunFolder

    failed: dict[str, str] = {}
    left = []
    for cell in mine:
        folder = RunFolder(cell.folder)
        try:
            folder.check_same(cell.experiment)
        except UserError as error:
            failed[cell.name] = str(error)
            continue
        if not folder.is_finished():
            left.append(cell)
    if len(left) < len(mine) - len(failed):
        console.say(f"{len(mine) - len(failed) - len(left)} of {len(mine)} cells are finished already.")
    left.sort(key=lambda cell: (cell.folder / "status.json").exists())
    for number, cell in enumerate(left, start=1):
        console.say(f"Cell {number} of {len(left)}: {cell.name}")
        own = Console(quiet=console.quiet, stream=console.stream)
        try:
            fit_experiment(cell.experiment, console=own, offline=offline)
        except UserError as error:
            failed[cell.name] = str(error)
        except Exception as error:
            failed[cell.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            _keep_traceback(cell.folder / "log.txt")
        if cell.name in failed:
            console.warn(f"{cell.name}: {failed[cell.name]}")
        keras.backend.clear_session()  # what the cell built is not needed any more
        gc.collect()
    return failed


def _keep_traceback(log: Path) -> None:
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(traceback.format_exc())


def _table(grid: Sequence[Cell], axes: Sequence[str]) -> "Table | None":
    """Returns the table of all cells that have results, whoever trained them."""
    from tfpt.compare_runs import compare, find_runs

    begun = [cell.folder for cell in grid if list(cell.folder.glob("**/experiment.flags"))]
    runs, notes = find_runs(begun)
    shown = [flag for flag in axes if any(flag in run.flags for run in runs)]
    return compare(runs, flags=shown, notes=notes) if runs else None


def _tell(table: "Table | None", failed: dict[str, str], folder: Path | None, console: Console) -> None:
    from tfpt.table_formats import text

    if table:
        console.say(text(table, names=False, digits=4))
        for note in table.notes:
            console.say(note)
        console.say(f"`tfpt table {folder} --table.format=latex` writes it otherwise.")
    if failed:
        console.warn(f"{len(failed)} cells failed; the same command tries them again:")
        for name, sentence in failed.items():
            console.say(f"  {name}: {sentence}")


if __name__ == "__main__":
    main()

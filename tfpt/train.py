"""Trains, evaluates and exports one experiment.

First the new head alone on the frozen backbone, then what --train.unfreeze says. Stopped with Ctrl-C and started again, it
goes on where it was.
"""

import json
from collections.abc import Sequence
from typing import NoReturn

from tfpt import app, flags
from tfpt.console import Console

PROGRAM = "Train, evaluate and export one experiment."


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _train,
        program="train",
        about=__doc__ or "",
        example="tfpt train --task=image_classification --data=digits --backbone=efficientnet_lite:lite0",
        dry_run=True,
        argv=argv,
    )


def _train(parsed: flags.Parsed, console: Console) -> None:
    assert parsed.experiment is not None
    if parsed.dry_run:
        from tfpt.dry_run import walk

        walk(parsed.experiment, console, offline=parsed.offline)
        return
    from tfpt import run

    done = run.fit_experiment(parsed.experiment, console=console, offline=parsed.offline)
    run.tell(done, console)
    if parsed.json and done.metrics:  # of several workers only the first has any
        print(json.dumps(done.metrics, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""Exports a trained experiment again: another version, another folder, another requirement.

`tfpt train` exports by itself; this is for a run whose gate said no, that was trained with --export.publish=false, or
that shall be published once more. Nothing is trained.
"""

from collections.abc import Sequence
from typing import NoReturn

from tfpt import app, flags
from tfpt.console import Console

PROGRAM = "Export a trained experiment again."


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _export,
        program="export",
        about=__doc__ or "",
        example="tfpt export --flagfile=mine.flags --output.model_dir=elsewhere/mine",
        argv=argv,
    )


def _export(parsed: flags.Parsed, console: Console) -> None:
    from tfpt import run

    assert parsed.experiment is not None
    run.tell(run.export_experiment(parsed.experiment, console=console, offline=parsed.offline), console)


if __name__ == "__main__":
    main()

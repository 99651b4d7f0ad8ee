"""Exports a trained experiment again, an exported model in other formats, or a checkpoint that was fine-tuned elsewhere.

`tfpt train` exports by itself; this is for a run whose gate said no, that was trained with --export.publish=false, or
that shall be published once more. With --model it needs no data: it publishes an exported model once more as it is, with files in
the formats of --export.formats beside it. Without --data it makes a served model of a fine-tuned checkpoint, with its head and
its classes: --task=text_classification --backbone=hf:FOLDER. Nothing is trained.
"""

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from tfpt import app, flags
from tfpt.config import DEFAULT_TRUNK, setting
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "Export a trained experiment again, a model in other formats, or a checkpoint fine-tuned elsewhere."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a checkpoint is exported without data."""

    pair: bool = setting(False, "It answers two texts at a time (text and text_pair), as those fine-tuned on MNLI do.")


GROUPS = {"checkpoint": Options}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _export,
        program="export",
        about=__doc__ or "",
        example="tfpt export --task=text_classification --backbone=hf:my-fine-tuned-bert",
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _export(parsed: flags.Parsed, console: Console) -> None:
    if parsed.model:
        from tfpt import export_bundle

        export_bundle.check_given(parsed.given)
        final = export_bundle.export_bundle(
            parsed.model,
            parsed.options["export"],
            trust=parsed.trust,
            threads=parsed.options["runtime"].threads,
            console=console,
        )
        console.say(f"model   {final}")
        return
    if parsed.experiment is not None:
        from tfpt import run

        run.tell(run.export_experiment(parsed.experiment, console=console, offline=parsed.offline), console)
        return
    if not parsed.task or set(parsed.backbone or ()) != {DEFAULT_TRUNK}:
        raise UserError(
            "Give the flags of a trained experiment (--flagfile=FILE), or --model=saved_models/NAME with --export.formats, or, for a "
            "checkpoint that was fine-tuned elsewhere, --task=text_classification and --backbone=hf:FOLDER."
        )
    from tfpt.export_checkpoint import export_checkpoint, with_checkpoint_head

    final = export_checkpoint(
        with_checkpoint_head(parsed.task),
        parsed.backbone[DEFAULT_TRUNK],
        **{group: parsed.options[group] for group in ("input", "output", "export")},
        pair=parsed.options["checkpoint"].pair,
        console=console,
        offline=parsed.offline,
    )
    console.say(f"model   {final}")


if __name__ == "__main__":
    main()

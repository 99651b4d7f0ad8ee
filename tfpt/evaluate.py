"""Measures an exported model: accuracy and the rest with 95 % intervals, a report with the worst mistakes.

With --model and --data on anything new: classes are matched by name, no flagfile is needed. Of the data that the model was
trained on, only the test split is measured.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flagfile, flags, record, registry, writable
from tfpt.config import Input, check, setting
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "Measure an exported model on data."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `evaluate`."""

    split: str = setting(
        "auto",
        "Which part of the data, split as the model's own run was: all, train, validation or test. auto: test of the data "
        "that the model was trained on, all of any other.",
        choices=("auto", "all", "train", "validation", "test"),
    )
    output: str = setting("", "Folder for metrics.json, predictions.csv and report.html; default: evaluations/MODEL.")
    report_examples: int | None = setting(24, "Most wrong examples shown in the report; 0 or none: none.")

    def __post_init__(self) -> None:
        check((self.report_examples or 0) >= 0, f"report_examples: {self.report_examples} is negative")


GROUPS = {"evaluate": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _evaluate,
        program="evaluate",
        about=__doc__ or "",
        example='tfpt evaluate --model=saved_models/mine --data=folder:"new photos"',
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _evaluate(parsed: flags.Parsed, console: Console) -> None:
    options = parsed.options["evaluate"]
    model = parsed.model or (parsed.experiment.output.model_dir if parsed.experiment else "")
    if not model:
        raise UserError("--model is missing: write --model=saved_models/NAME, or --flagfile=FILE of its experiment.")
    if parsed.data is None:
        raise UserError("--data is missing: write --data=folder:PATH with a folder a class.")
    writable.check_folder(Path(options.output or "evaluations"), flag="--evaluate.output")
    source = parsed.data.make()
    source.info()  # a mistake in it is told before TensorFlow loads
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.evaluation.on_data import evaluate, model_name
    from tfpt.evaluation.results import as_json
    from tfpt.serving.servable import Servable

    servable = Servable.load(model, trust=parsed.trust)
    metrics = evaluate(
        servable,
        source,
        data=str(parsed.data),
        part=_own_part(parsed, servable.folder) if options.split == "auto" else options.split,
        output=Path(options.output or Path("evaluations") / model_name(servable)),
        report_examples=options.report_examples,
        input_options=_input_options(parsed, servable.folder),
        console=console,
    )
    if parsed.json:
        print(as_json(metrics))


def _recorded(bundle: Path | None) -> Path:
    return (bundle or Path()) / "assets.extra" / "experiment.flags"


def _own_part(parsed: flags.Parsed, bundle: Path | None) -> str:
    """Returns `test` for the data that the model was trained on, `all` for any other."""
    file = _recorded(bundle)
    if not file.is_file() or parsed.data is None:
        return "all"
    recorded = flagfile.read(file)["data"].value or ""
    name, argument = registry.split_reference(recorded)
    same_path = argument and Path(argument).resolve() == Path(parsed.data.argument).resolve()
    return "test" if str(parsed.data) == recorded or (parsed.data.name == name and same_path) else "all"


def _input_options(parsed: flags.Parsed, bundle: Path | None) -> Input:
    """Returns the input settings of the model's own run, so that a split is its split, under those given now."""
    if parsed.flagfile or not _recorded(bundle).is_file():
        return parsed.options["input"]
    given = {flag.partition(".")[2] for flag in parsed.given if flag.startswith("input.")}
    recorded = record.read_group(_recorded(bundle), "input")
    return dataclasses.replace(recorded, **{name: getattr(parsed.options["input"], name) for name in given})


if __name__ == "__main__":
    main()

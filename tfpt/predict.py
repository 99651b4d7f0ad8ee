"""Answers pictures, files or folders of them at any depth, or texts, with an exported model.

Texts stand in --text, in a .txt file (one a line), or in the columns of a .csv, .tsv or .jsonl file, called text, or question and context; a
model that takes two gets both with ||| between them: --text="question ||| context". --data=NAME:ARGUMENT answers the examples of any data
source, whose labels are not looked at. Of any number of classes an example, [x] marks those that are over their thresholds.

Prints a table, or CSV or JSON lines for other programs. A file that cannot be decoded gets a line that says so, and the
exit code is then 1; the others are answered all the same.
"""

import dataclasses
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfpt import app, flags, writable
from tfpt.config import Component, check, setting
from tfpt.console import Console
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.serving.answers import FileAnswer

PROGRAM = "Answer pictures or texts with an exported model."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `predict`."""

    format: str = setting("table", "How answers are printed.", choices=("table", "csv", "jsonl"))
    output: str = setting("", "File to write them to instead of standard output.")
    top: int = setting(3, "How many of the highest scores are shown.")

    def __post_init__(self) -> None:
        check(self.top >= 1, f"top: {self.top} is not at least 1")


GROUPS = {"predict": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _predict,
        program="predict",
        about=__doc__ or "",
        example='tfpt predict --model=saved_models/mine "new photos" one.jpg',
        groups=GROUPS,
        need_experiment=False,
        positional="PATH...",
        argv=argv,
    )


def _predict(parsed: flags.Parsed, console: Console) -> int:
    options = parsed.options["predict"]
    model = parsed.model or (parsed.experiment.output.model_dir if parsed.experiment else "")
    data = None if parsed.flagfile else parsed.data  # that of a flag file is what the model was trained on
    if not model or not (parsed.paths or parsed.text or data):
        raise UserError(
            'Write --model=saved_models/NAME and the files or folders to answer, --text="..." or --data=... (with --model, not with --flagfile).'
        )
    given = {"files": parsed.paths, "--text": parsed.text, "--data": data}
    if sum(map(bool, given.values())) > 1:
        raise UserError(f"{' and '.join(name for name in given if given[name])} were given: write one of them.")
    if options.output:
        writable.check_file(Path(options.output), flag="--predict.output")
    source = _without_labels(data, parsed.given).make() if data else None
    if source:
        source.info()  # a mistake in it is told before TensorFlow loads
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.atomic import atomic_text
    from tfpt.serving import answers, asked
    from tfpt.serving.servable import Servable

    files = answers.find_files(parsed.paths)
    form = "jsonl" if parsed.json else options.format
    console = console if form == "table" else Console(stream=sys.stderr)
    servable = Servable.load(model, trust=parsed.trust)
    features = servable.features()
    found: Iterable[FileAnswer]
    if parsed.text:
        found = [answers.answer_text(servable, parsed.text)]
    elif source:
        size = source.info().size
        found = asked.answer_asked(servable, asked.of_source(source, features), total=size, console=console)
    elif "image" not in features:
        texts = list(asked.of_files(files, features))
        found = asked.answer_asked(servable, texts, total=len(texts), console=console)
    else:
        found = answers.answer_files(servable, files, console=console)
    if options.output:
        with atomic_text(options.output, errors="surrogateescape") as file:
            kind = "csv" if form == "table" else form
            count, failed = answers.write_answers(found, file, form=kind, top=options.top)
        console.say(f"{count} answers are in {options.output}.")
        return int(failed > 0)
    if form != "table":
        _, failed = answers.write_answers(found, sys.stdout, form=form, top=options.top)
        return int(failed > 0)
    shown = list(found)
    if parsed.text:
        console.say("\n".join(answers.in_words(shown[0], options.top)))
    else:
        console.table(["file", "answer", *["then"] * (options.top > 1)], [_row(a, options.top) for a in shown])
    return int(any(a.error for a in shown))


def _without_labels(data: Component, given: Collection[str]) -> Component:
    """Returns a table's data as one that needs no labels, unless a column of them is named."""
    if data.config is None or "data.label" in given or not hasattr(data.config, "label"):
        return data
    return dataclasses.replace(data, config=dataclasses.replace(data.config, label=("none",)))


def _row(found: "FileAnswer", top: int) -> list[str]:
    from tfpt.serving.answers import in_words

    first, *others = [found.error] if found.error else in_words(found, top)
    rest = [", ".join(others)] if top > 1 else []
    return [found.path, first, *rest]


if __name__ == "__main__":
    main()

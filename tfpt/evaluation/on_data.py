"""Evaluates an exported model on data: its own test split, or anything new with the same classes."""

from pathlib import Path
from typing import Any

import numpy as np

from tfpt.config import Input
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.data import DataSource
from tfpt.errors import UserError
from tfpt.evaluation import measure
from tfpt.evaluation.cautions import cautions
from tfpt.evaluation.results import write_results
from tfpt.evaluation.scoring import score
from tfpt.preprocessors import distinct
from tfpt.serving.servable import Servable
from tfpt.training.alignment import aligned
from tfpt.training.pipeline import Prepared
from tfpt.training.splits import split


def evaluate(
    servable: Servable,
    source: DataSource,
    *,
    data: str,
    part: str,
    output: Path,
    report_examples: int | None,
    input_options: Input,
    console: Console,
) -> dict[str, Any]:
    """Scores a loaded model and writes metrics.json, predictions.csv and report.html.

    Args:
        servable: loaded from a bundle.
        source: the data; its classes are matched to the model's by name.
        data: what the user calls it.
        part: `all`, `train`, `validation` or `test`.
        output: the folder for the results.
        report_examples: how many of the worst mistakes the report shows.
        input_options: how a split is made, and how many bad examples are allowed.
        console: talks to the user.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: the data has no labels that the model knows, or too much of it is bad.
    """
    source = aligned(source, servable.state, data=data)
    if note := getattr(source, "note", ""):
        console.say(note)
    index = source.index()
    examples = np.arange(len(index.names))
    if part != "all":
        examples = getattr(split(index, source.digests(), input_options, classes=source.info().classes), part)
    if not len(examples):
        raise UserError(f"--evaluate.split={part}: there are no such examples in {data}.")
    prepared = Prepared(source, distinct(servable.preprocessors), threads=cores())
    scores = score(servable, prepared, examples, console=console, what=f"Evaluating {data}")
    failed = sorted(index.names[k] for k in prepared.failed)
    if len(failed) > input_options.max_bad_fraction * len(examples):
        raise UserError(
            f"{len(failed)} of {len(examples)} examples cannot be decoded, more than --input.max_bad_fraction="
            f"{input_options.max_bad_fraction:g} allows: {', '.join(failed[:5])}; mend or remove them, or allow more."
        )
    if not len(scores.examples):
        raise UserError(f"None of the {len(examples)} examples of --data={data} can be decoded; mend them.")
    name = "test" if part == "all" else part
    primary = servable.task.primary_of(servable.state)
    metrics: dict[str, Any] = {
        "data": data,
        "model": str(servable.folder),
        "primary": primary.name,
        "higher_is_better": primary.higher_is_better,
        name: measure.measure(servable, scores),
        "examples": {name: len(scores.examples)},
        "failed": failed,
        **servable.task.details(scores.statistics, servable.state),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--evaluate.output={output} cannot be written ({error.strerror}); choose a folder that is yours."
        ) from error
    write_results(
        output,
        title=f"{model_name(servable)} on {data}",
        summary={"model": str(servable.folder), "data": data},
        metrics=metrics,
        scored={name: scores},
        index=index,
        source=source,
        state=servable.state,
        report_examples=report_examples,
        notes=source.info().notes,
    )
    console.table(
        ["metric", "value", "low", "high"],
        [
            [m, f"{v['value']:.4f}", *("" if v[e] is None else f"{v[e]:.4f}" for e in ("low", "high"))]
            for m, v in metrics[name].items()
        ],
    )
    for sentence in cautions(metrics):
        console.warn(sentence)
    console.say(f"{len(scores.examples)} examples; low and high bound the 95 % interval.")
    console.say(f"report  {output / 'report.html'}")
    return metrics


def model_name(servable: Servable) -> str:
    """Returns the name of the folder of versions that a loaded model stands in."""
    assert servable.folder is not None
    folder = servable.folder.resolve()
    return folder.parent.name if folder.name.isdigit() else folder.name

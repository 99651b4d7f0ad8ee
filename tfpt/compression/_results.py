"""What a compression came to: results.json, a card, and a table for the console."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt import __version__
from tfpt.compression import Options
from tfpt.compression._comparison import Variant, changed_share, latencies_of, scores_of, sizes_of
from tfpt.compression._subject import Subject
from tfpt.console import Console, table_text
from tfpt.errors import GateError, UserError
from tfpt.evaluation.environment import environment
from tfpt.evaluation.measure import measure
from tfpt.evaluation.results import as_json
from tfpt.evaluation.scoring import Scores
from tfpt.serving.model_card import effort
from tfpt.serving.servable import EXTRA
from tfpt.tasks import Primary


def compare(way: str, options: Options, variants: Sequence[Variant], *, console: Console) -> dict[str, Any]:
    """Measures variants of a model, the first being as it was and the last the one that is published.

    Returns:
        What results.json holds.
    """
    first = variants[0].subject
    split, _ = first.measured
    primary = first.servable.task.primary_of(first.servable.state)
    scores = [scores_of(variant, console=console) for variant in variants]
    rows: list[dict[str, Any]] = []
    for variant, scored in zip(variants, scores, strict=True):
        console.say(f"Timing {variant.name} ...")
        rows.append(
            {
                "name": variant.name,
                "format": variant.format,
                **sizes_of(variant),
                "seconds": variant.seconds,
                "max_difference": variant.difference,
                "tolerance": variant.tolerance,
                "metrics": measure(variant.subject.servable, scored),
                "other_class_than_before": changed_share(scores[0], scored),
                "latency": latencies_of(variant, seconds=options.latency_seconds),
            }
        )
    return {
        "compress": way,
        "model": str(first.bundle),
        "data": str(first.experiment.data),
        "split": split,
        "examples": len(scores[0].examples),
        "primary": primary.name,
        "higher_is_better": primary.higher_is_better,
        "drop": _drop(primary, *(row["metrics"][primary.name]["value"] for row in (rows[0], rows[-1]))),
        "max_drop": options.max_drop,
        "variants": rows,
        "environment": environment(),
    }


def check_drop(results: Mapping[str, Any]) -> None:
    """Raises GateError when the primary metric fell by more than `--compress.max_drop`."""
    if not results["drop"] <= results["max_drop"] + 1e-9:
        before, after = (
            row["metrics"][results["primary"]]["value"] for row in (results["variants"][0], results["variants"][-1])
        )
        raise GateError(
            f"--compress.max_drop={results['max_drop']:g}: {results['primary']} on {results['split']} went from {before:.4f} to "
            f"{after:.4f}, {results['drop']:.4f} worse; nothing was published."
        )


def check_kept(subject: Subject, before: Mapping[str, float], after: Mapping[str, float], *, max_drop: float) -> None:
    """Raises GateError when the primary metric fell by more than `--compress.max_drop`.

    Args:
        subject: the model.
        before: metric -> value on the split that it is measured on.
        after: that of the other model.
        max_drop: what it may fall by.
    """
    primary = subject.servable.task.primary_of(subject.servable.state)
    split, _ = subject.measured
    values = before[primary.name], after[primary.name]
    variants = [{"metrics": {primary.name: {"value": value}}} for value in values]
    drop = _drop(primary, *values)
    check_drop({"primary": primary.name, "split": split, "drop": drop, "max_drop": max_drop, "variants": variants})


def _drop(primary: Primary, before: float, after: float) -> float:
    """Returns by how much a metric is worse than before."""
    return (before - after) * (1 if primary.higher_is_better else -1)


def check_learned(subject: Subject, scores: Scores, metrics: Mapping[str, Any]) -> None:
    """Refuses a model that answers no better than always the same: there is nothing in it to keep, or to teach.

    Args:
        subject: the model.
        scores: of it.
        metrics: of the scores, as `measure` returns them.

    Raises:
        UserError: it is one, and a better answer is possible.
    """
    task, state = subject.servable.task, subject.servable.state
    primary, (split, _) = task.primary_of(state), subject.measured
    details = task.details(scores.statistics, state)
    value, constant = metrics[primary.name]["value"], details.get("baseline", {}).get(primary.name, math.nan)
    better, best = (value > constant, constant >= 1) if primary.higher_is_better else (value < constant, constant <= 0)
    if better or best or math.isnan(constant):  # with one class in the split there is no telling
        return
    answer = details.get("baseline_answer", "the same").removesuffix(", always")
    raise UserError(
        f"--model={subject.bundle}: {primary.name} on {split} is {value:.4f}, and {constant:.4f} for answering "
        f"{answer} every time; train it first, it has learned nothing yet."
    )


def tell(results: Mapping[str, Any], console: Console) -> None:
    """Shows the table, and in a sentence what was gained and lost."""
    console.say(table(results))
    first, last = results["variants"][0], results["variants"][-1]
    changed = last["other_class_than_before"]
    console.say(
        f"{results['examples']} {results['split']} examples, 95 % intervals; latencies in milliseconds, p50 / p99, from decoded pictures or tokens on. "
        f"{first['bytes'] / last['bytes']:.1f} times smaller than the SavedModel"
        + ("." if changed is None else f"; {changed:.1%} of the examples get another class than before.")
    )


def table(results: Mapping[str, Any]) -> str:
    """Returns a line for each variant."""
    primary = results["primary"]
    headers = ["model", "MB", "zip MB", primary, "95 %"]
    headers += [f"batch {row['batch']}, {row['threads']} thr." for row in results["variants"][0]["latency"]]
    lines = []
    for row in results["variants"]:
        found = row["metrics"][primary]
        ends = "" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"
        times = [f"{one['p50_ms']:.1f} / {one['p99_ms']:.1f}" for one in row["latency"]]
        sizes = [f"{row[size] / 1e6:.2f}" for size in ("bytes", "zip_bytes")]
        lines.append([row["name"], *sizes, f"{found['value']:.4f}", ends, *times])
    return table_text(headers, lines)


def write(results: Mapping[str, Any], variant: Variant, folder: Path) -> None:
    """Writes results.json, labels.txt and model_card.md beside a file.

    Args:
        results: as `compare` returned them.
        variant: that is published.
        folder: where the file is.
    """
    subject = variant.subject
    (folder / "results.json").write_text(as_json(results), encoding="utf-8", errors="surrogateescape")
    classes = subject.servable.state.get("classes", ())
    if classes:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    inputs = next(subject.batches(subject.measured[1][:1], batch_size=1))
    pictures = [name for name, values in inputs.items() if values.dtype.name == "uint8"]
    said = {
        name: f"float32 [batch, {', '.join(map(str, values.shape[1:]))}], red, green, blue from 0 to 255, resized as the model's preprocessor does"
        if name in pictures
        else f"{values.dtype.name} [batch, {_size(subject, name)}, {values.shape[-1]}]: token id + 1 and number of the text, zeros behind"
        for name, values in inputs.items()
    }
    made, card = results["variants"][-1], subject.bundle / EXTRA / "model_card.md"
    own = card.read_text(encoding="utf-8", errors="surrogateescape") if card.is_file() else ""
    lines = [
        f"# {subject.name}, {results['compress']}",
        "",
        f"Made with tfpt {__version__} of {subject.bundle}{', whose own card is below' if own else ''}.",
        "",
        *(f"- Input `{name}`: {what}." for name, what in said.items()),
        "- Outputs: `outputs` as the SavedModel's signature of that name, and, for classes, their `scores`, in the order of labels.txt.",
        "",
        f"## Measured on {results['split']}",
        "",
        "```",
        table(results),
        "```",
        "",
        f"Timed on {results['environment'].get('cpu', 'this machine')}; another machine has other times.",
        "",
        "## Limits",
        "",
        "- Those of the model that it was made of; it is nowhere known to be better.",
        f"- {_told_difference(made)}",
        *effort({"write the file": made["seconds"]}, results["environment"]),
        "",
        re.sub("^#", "##", own, flags=re.MULTILINE).rstrip(),
    ]
    (folder / "model_card.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", errors="surrogateescape")


def _told_difference(row: Mapping[str, Any]) -> str:
    """Returns how far a file's outputs are from the SavedModel's."""
    allowed = "only the metric was asked" if row["tolerance"] is None else f"{row['tolerance']:g} was allowed"
    return f"Its outputs differ from the SavedModel's by up to {row['max_difference']:.1e}, beyond 1 as a share of it; {allowed}."


def _size(subject: Any, name: str) -> int:
    preprocessors = subject.servable.preprocessors
    return preprocessors.get(name, next(iter(preprocessors.values()))).size

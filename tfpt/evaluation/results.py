"""Writes what was measured: metrics.json, predictions.csv, the report and its figures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.atomic import atomic_text
from tfpt.data import DataSource, Index
from tfpt.evaluation import figure_files, mistakes, predictions, questions, regression_figures, report, tagged
from tfpt.evaluation.environment import environment, peak_memory
from tfpt.evaluation.scoring import Scores


def write_results(
    folder: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any],
    scored: Mapping[str, Scores],
    index: Index,
    source: DataSource,
    state: Mapping[str, Any],
    report_examples: int | None,
    history: Sequence[Mapping[str, Any]] = (),
    configuration: Sequence[tuple[str, str, bool]] = (),
    timings: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes the results of scoring into a folder.

    Args:
        folder: exists.
        title: of the report.
        summary: lines under the title.
        metrics: of metrics.json.
        scored: split name -> scores; the report shows the mistakes of the last one.
        index: the data's table.
        source: the data.
        state: of the task.
        report_examples: how many mistakes the report shows; 0 or None leaves pictures, texts and names of examples out.
        history: of training.
        configuration: flag, value, changed.
        timings: seconds by part.
        notes: for the user.
    """
    with atomic_text(folder / "metrics.json", errors="surrogateescape") as file:
        file.write(as_json(metrics) + "\n")
    last = list(scored.values())[-1] if scored else None
    if last:
        _write_predictions(folder / "predictions.csv", scored, index, source, state)
    failed = [f"Could not be decoded: {name}" for name in metrics.get("failed", ())]
    if failed and not report_examples:
        failed = [f"{len(failed)} examples could not be decoded; metrics.json names them."]
    page = report.Report(
        title=title,
        summary=summary,
        metrics=metrics,
        history=history,
        figures=regression_figures.draw(last.statistics) if last else (),
        wrong=mistakes.most_wrong(last, index, source, state, count=report_examples or 0) if last else (),
        configuration=configuration,
        environment=environment(),
        timings=timings or {},
        peak_memory=peak_memory(),
        notes=[*notes, *failed],
    )
    report.write(page, folder / "report.html")
    figure_files.write(page.drawings(), folder / "figures")


def as_json(metrics: Mapping[str, Any]) -> str:
    """Returns the text of metrics.json; what is not a number is null there, since JSON knows no NaN."""
    return json.dumps(_without_nan(metrics), indent=1, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_predictions(
    path: Path, scored: Mapping[str, Scores], index: Index, source: DataSource, state: Mapping[str, Any]
) -> None:
    """Writes predictions.csv for the kinds of answers that have one."""

    def of(part: str, name: str) -> Any:
        return np.concatenate([getattr(scores, part)[name] for scores in scored.values()])

    first = next(iter(scored.values()))
    examples = [int(k) for scores in scored.values() for k in scores.examples]
    names = [index.names[k] for k in examples]
    splits = [name for name, scores in scored.items() for _ in scores.examples]
    if "scores" in first.kept and "label" in first.statistics:
        predictions.write_predictions(
            path,
            names=names,
            splits=splits,
            scores=of("kept", "scores"),
            labels=of("statistics", "label"),
            predicted=of("statistics", "predicted"),
            classes=state["classes"],
        )
    elif "scores" in first.kept and "chosen" in first.statistics:
        predictions.write_choices(
            path,
            names=names,
            splits=splits,
            scores=of("kept", "scores"),
            labels=of("statistics", "labels"),
            chosen=of("statistics", "chosen"),
            classes=state["classes"],
        )
    elif "values" in first.kept and "target" in first.statistics:
        predictions.write_values(
            path, names=names, splits=splits, values=of("kept", "values"), targets=of("statistics", "target")
        )
    elif "tags" in source.info().features and "label" in first.kept:
        found = (one for s in scored.values() for one in tagged.tagged(s, source, state, range(len(s.examples))))
        spans = (
            (name, split, *row) for name, split, one in zip(names, splits, found, strict=True) for row in one.rows()
        )
        predictions.write_rows(path, ("name", "split", *tagged.COLUMNS), spans)
    elif "answers" in source.info().features and "answer" in first.kept:
        answers = (one for s in scored.values() for one in questions.answered(s, source, range(len(s.examples))))
        rows = ((name, split, *one.row()) for name, split, one in zip(names, splits, answers, strict=True))
        predictions.write_rows(path, ("name", "split", *questions.COLUMNS), rows)

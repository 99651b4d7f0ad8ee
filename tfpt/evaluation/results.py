"""Writes what was measured: metrics.json, predictions.csv and the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.atomic import atomic_text
from tfpt.data import DataSource, Index
from tfpt.evaluation import report
from tfpt.evaluation.environment import environment, peak_memory
from tfpt.evaluation.measure import wrong_examples
from tfpt.evaluation.predictions import write_predictions
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
    report_examples: int,
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
        report_examples: how many mistakes the report shows.
        history: of training.
        configuration: flag, value, changed.
        timings: seconds by part.
        notes: for the user.
    """
    with atomic_text(folder / "metrics.json", errors="surrogateescape") as file:
        json.dump(metrics, file, indent=1, ensure_ascii=False)
        file.write("\n")
    wrong: list[report.WrongExample] = []
    if scored and all("scores" in s.kept and "label" in s.statistics for s in scored.values()):
        examples = [int(k) for scores in scored.values() for k in scores.examples]
        write_predictions(
            folder / "predictions.csv",
            names=[index.names[k] for k in examples],
            splits=[name for name, scores in scored.items() for _ in scores.examples],
            scores=np.concatenate([scores.kept["scores"] for scores in scored.values()]),
            labels=np.concatenate([scores.statistics["label"] for scores in scored.values()]),
            classes=state["classes"],
        )
        wrong = wrong_examples(list(scored.values())[-1], index, source, state, count=report_examples)
    failed = [f"Could not be decoded: {name}" for name in metrics.get("failed", ())]
    page = report.Report(
        title=title,
        summary=summary,
        metrics=metrics,
        history=history,
        wrong=wrong,
        configuration=configuration,
        environment=environment(),
        timings=timings or {},
        peak_memory=peak_memory(),
        notes=[*notes, *failed],
    )
    report.write(page, folder / "report.html")

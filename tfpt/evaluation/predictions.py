"""predictions.csv: one line an example, as spreadsheets and scripts read it.

The columns are name, split, label, predicted, score (of the prediction) and correct (1 or 0), then one column a class,
`score:CLASS`, for up to 50 classes; for more, the five highest as `top1`, `top1_score`, ... `top5_score`. Label and
correct are empty where the true class is not known. The file is UTF-8; bytes of a file name that are not UTF-8 are
kept as they are (surrogateescape). Text is quoted, numbers are not.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpt.atomic import atomic_text
from tfpt.errors import UserError

MOST_COLUMNS = 50
"""With more classes than this, only the highest scores are written."""

TOP = 5
"""How many of the highest scores are written then."""

_FIRST = ("name", "split", "label", "predicted", "score", "correct")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One line of predictions.csv.

    Attributes:
        name: what the user calls the example.
        split: `train`, `validation`, `test`, or empty.
        label: its true class; None where that is not known.
        predicted: the class with the highest score.
        score: that score.
        correct: whether they are equal; None where the true class is not known.
        scores: scores by class: of all classes, or of the highest ones where there are many.
    """

    name: str
    split: str
    label: str | None
    predicted: str
    score: float
    correct: bool | None
    scores: Mapping[str, float] = field(default_factory=dict)


def write_predictions(
    path: str | Path,
    *,
    names: Sequence[str],
    splits: Sequence[str],
    scores: NDArray[Any],
    labels: NDArray[Any],
    classes: Sequence[str],
) -> None:
    """Writes predictions.csv, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        names: `[examples]`, what the user calls them.
        splits: `[examples]`, the split of each.
        scores: `[examples, classes]`, probabilities.
        labels: `[examples]`, integer, class indices; -1 where the true class is not known.
        classes: their names.

    Raises:
        UserError: the file cannot be written.
        ValueError: the lengths differ.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != (len(names), len(classes)) or labels.shape != (len(names),):
        raise ValueError(f"{len(names)} names, scores {scores.shape} and labels {labels.shape} do not fit together")
    whole = len(classes) <= MOST_COLUMNS
    highest = scores.argmax(axis=1)[:, None] if whole else np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    with atomic_text(path, errors="surrogateescape") as file:
        # Text is always quoted: minimal quoting leaves a carriage return bare (until Python 3.13), which ends a line.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([*_FIRST, *([f"score:{name}" for name in classes] if whole else _top_columns())])
        for name, split, label, best, row in zip(names, splits, labels, highest, scores, strict=True):
            known = label >= 0
            cells: list[Any] = [
                name,
                split,
                classes[label] if known else "",
                classes[best[0]],
                row[best[0]],
                int(best[0] == label) if known else "",
            ]
            if whole:
                cells.extend(row)
            else:
                cells.extend(cell for k in best for cell in (classes[k], row[k]))
            writer.writerow(cells)


def read_predictions(path: str | Path) -> list[Prediction]:
    """Reads what `write_predictions` wrote.

    Raises:
        UserError: the file is missing, or is not a predictions.csv.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header[: len(_FIRST)]) != _FIRST:
                raise UserError(f"{path} is not a predictions.csv: its first line must begin with {','.join(_FIRST)}.")
            return [_prediction(header, cells) for cells in lines]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (csv.Error, LookupError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is not a whole predictions.csv: line {lines.line_num} does not fit its columns."
        ) from error


def _prediction(header: Sequence[str], cells: Sequence[str]) -> Prediction:
    if len(cells) != len(header):
        raise ValueError("another number of cells than of columns")
    name, split, label, predicted, score, correct = cells[: len(_FIRST)]
    rest = cells[len(_FIRST) :]
    if header[len(_FIRST) :] == _top_columns():
        scores = dict(zip(rest[::2], map(float, rest[1::2]), strict=True))
    else:
        columns = [column.removeprefix("score:") for column in header[len(_FIRST) :]]
        scores = dict(zip(columns, map(float, rest), strict=True))
    return Prediction(
        name=name,
        split=split,
        label=label if correct else None,
        predicted=predicted,
        score=float(score),
        correct={"1": True, "0": False}[correct] if correct else None,
        scores=scores,
    )


def _top_columns() -> list[str]:
    return [column for k in range(1, TOP + 1) for column in (f"top{k}", f"top{k}_score")]

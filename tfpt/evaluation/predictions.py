"""predictions.csv: one line an example, as spreadsheets and scripts read it.

With one class an example the columns are name, split, label, predicted, score (of the prediction) and correct (1 or 0), then one column a class,
`score:CLASS`, for up to 50 classes; for more, the five highest as `top1`, `top1_score`, ... `top5_score`. Label and
correct are empty where the true class is not known.

With any number of classes they are name, split, labels and predicted (names with | between them), correct (1 where all
are right), then the scores as above. With numbers they are name, split, target, predicted and error (prediction minus
truth); several numbers are told apart as target1, target2, ...

With tags there is a line for each span that is true or was found: name, split, start, end (in characters), text, label and
predicted (its type, empty where it is none, or was not found), score and correct (1 where both are equal). A text without
spans has none. With questions the columns are name, split, question, answers (accepted ones with | between them; empty when
there is none), predicted, its start, end and score, exact_match and f1.

The file is UTF-8; bytes of a file name that are not UTF-8 are
kept as they are (surrogateescape). Text is quoted, numbers are not.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
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
        predicted: the class that was answered.
        score: its score.
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
    predicted: NDArray[Any],
    classes: Sequence[str],
) -> None:
    """Writes predictions.csv of one class an example, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        names: `[examples]`, what the user calls them.
        splits: `[examples]`, the split of each.
        scores: `[examples, classes]`, probabilities.
        labels: `[examples]`, integer, class indices; -1 where the true class is not known.
        predicted: `[examples]`, integer, class indices: the answers.
        classes: their names.

    Raises:
        UserError: the file cannot be written.
        ValueError: the lengths differ.
    """
    scores, labels, predicted = np.asarray(scores), np.asarray(labels), np.asarray(predicted)
    _check(len(names), scores=(scores, (len(classes),)), labels=(labels, ()), predicted=(predicted, ()))
    rows = (
        [
            name,
            split,
            classes[label] if label >= 0 else "",
            classes[answer],
            row[answer],
            int(answer == label) if label >= 0 else "",
            *_score_cells(row, classes),
        ]
        for name, split, label, answer, row in zip(names, splits, labels, predicted, scores, strict=True)
    )
    write_rows(path, [*_FIRST, *_score_columns(classes)], rows)


def write_choices(
    path: str | Path,
    *,
    names: Sequence[str],
    splits: Sequence[str],
    scores: NDArray[Any],
    labels: NDArray[Any],
    chosen: NDArray[Any],
    classes: Sequence[str],
) -> None:
    """Writes predictions.csv of any number of classes an example, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        names: `[examples]`, what the user calls them.
        splits: `[examples]`, the split of each.
        scores: `[examples, classes]`, probabilities.
        labels: `[examples, classes]`, bool: the classes of each.
        chosen: `[examples, classes]`, bool: the answers.
        classes: their names.

    Raises:
        UserError: the file cannot be written.
        ValueError: the lengths differ.
    """
    width = (len(classes),)
    _check(len(names), scores=(scores, width), labels=(labels, width), chosen=(chosen, width))
    rows = (
        [
            name,
            split,
            *("|".join(classes[k] for k in np.flatnonzero(held).tolist()) for held in (truth, answer)),
            int((truth == answer).all()),
            *_score_cells(row, classes),
        ]
        for name, split, truth, answer, row in zip(names, splits, labels, chosen, scores, strict=True)
    )
    write_rows(path, ["name", "split", "labels", "predicted", "correct", *_score_columns(classes)], rows)


def write_values(
    path: str | Path,
    *,
    names: Sequence[str],
    splits: Sequence[str],
    values: NDArray[Any],
    targets: NDArray[Any],
) -> None:
    """Writes predictions.csv of predicted numbers, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        names: `[examples]`, what the user calls them.
        splits: `[examples]`, the split of each.
        values: `[examples, numbers]`, the answers.
        targets: `[examples, numbers]`, the truth.

    Raises:
        UserError: the file cannot be written.
        ValueError: the lengths differ.
    """
    count = values.shape[1]
    _check(len(names), values=(values, (count,)), targets=(targets, (count,)))
    numbers = [""] if count == 1 else [str(k) for k in range(1, count + 1)]
    header = ["name", "split", *(f"{what}{k}" for k in numbers for what in ("target", "predicted", "error"))]
    triples = np.stack([targets, values, values - targets], axis=2).reshape(len(names), -1)
    write_rows(path, header, ([n, split, *row] for n, split, row in zip(names, splits, triples, strict=True)))


def write_rows(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        header: names of the columns.
        rows: their cells.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_text(path, errors="surrogateescape") as file:
        # Text is always quoted: minimal quoting leaves a carriage return bare (until Python 3.13), which ends a line.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(header)
        writer.writerows(rows)


def _check(examples: int, **arrays: tuple[NDArray[Any], tuple[int, ...]]) -> None:
    if any(array.shape != (examples, *rest) for array, rest in arrays.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, (array, _) in arrays.items())
        raise ValueError(f"{examples} names and {shapes} do not fit together")


def _score_columns(classes: Sequence[str]) -> list[str]:
    return [f"score:{name}" for name in classes] if len(classes) <= MOST_COLUMNS else _top_columns()


def _score_cells(row: NDArray[Any], classes: Sequence[str]) -> Iterable[Any]:
    if len(classes) <= MOST_COLUMNS:
        return row
    highest = np.argsort(-row, kind="stable")[:TOP]
    return [cell for k in highest for cell in (classes[k], row[k])]


def read_predictions(path: str | Path) -> list[Prediction]:
    """Reads what `write_predictions` wrote.

    Raises:
        UserError: the file is missing, or is not a predictions.csv of one class an example.
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

"""What the label cells of a table mean: a class, any number of classes, or numbers."""

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Cell = str | tuple[str, ...]
"""A label cell: a text, or the list that a JSON or parquet file has there."""

_BITS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """The meaning of each different label.

    Attributes:
        feature: name of the raw feature: `label`, `labels` or `target`.
        kind: what it is: `class`, `classes` or `number`.
        values: `[different]` int64 class indices, `[different, classes]` float32 of 0 and 1, or `[different, n]`
            float32 numbers.
        classes: class names in index order.
        note: what was found out by looking; empty when there is nothing to say.
    """

    feature: str
    kind: str
    values: "np.ndarray"
    classes: tuple[str, ...] = ()
    note: str = ""


class LabelError(Exception):
    """A label makes no sense: its number among the different ones, and why."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(why)
        self.position = position


def cell(value: Any) -> Cell:
    """Returns a label as it is compared: without space around it, in Unicode's composed form; nothing is `""`.

    Raises:
        ValueError: it is neither a text, a number, a truth value nor a list of these.
    """
    if isinstance(value, bytes):  # as TFRecord files have it
        value = value.decode(errors="replace")
    if isinstance(value, str):
        text = value.strip()
        return text if text.isascii() else unicodedata.normalize("NFC", text)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # a column of whole numbers in which one is missing has floats
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return tuple(str(cell(part)) for part in value)
    raise ValueError(f"is a {type(value).__name__}, not a text, a number or a list of these")


def is_empty(label: tuple[Cell, ...]) -> bool:
    """Whether the cells of a row say nothing."""
    return all(part == "" for part in label)


def are_numbers(labels: Sequence[tuple[Cell, ...]]) -> bool:
    """Whether every cell is a number."""
    return all(math.isfinite(_number(part)) for label in labels for part in label)


def interpret(different: Sequence[tuple[Cell, ...]], columns: Sequence[str], *, kind: str, separator: str) -> Labels:
    """Finds the meaning of labels.

    Args:
        different: each label that occurs once; one cell a column.
        columns: names of the label columns.
        kind: `auto`, `class`, `number` or `multi`, as the user says.
        separator: between the names in one cell.

    Raises:
        LabelError: a label does not fit the others.
    """
    vectors = _vectors(different)
    if vectors is not None and kind != "number":
        one = bool((vectors.sum(axis=1) == 1).all())
        if one or kind != "class":
            return _of_vectors(vectors, columns[0], one=one and kind != "multi")
    if kind == "auto":
        kind, note = _kind(different, columns)
    else:
        note = ""
    if kind == "number":
        return dataclasses.replace(_numbers(different, columns), note=note)
    if kind == "multi" and len(columns) > 1:
        return dataclasses.replace(_columns_of_bits(different, columns), note=note)
    if kind == "multi":
        return dataclasses.replace(_lists_of_names(different, separator), note=note)
    return dataclasses.replace(_one_class(different), note=note)


def sorted_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names in order; by value when all are numbers."""
    different = set(names)
    if all(math.isfinite(_number(name)) for name in different):
        return tuple(sorted(different, key=lambda name: (float(name), name)))
    return tuple(sorted(different))


def _kind(different: Sequence[tuple[Cell, ...]], columns: Sequence[str]) -> tuple[str, str]:
    if len(columns) > 1:
        if all(part in _BITS for label in different for part in label):
            return (
                "multi",
                f"The columns {', '.join(columns)} hold 0 and 1: any number of these classes for each example.",
            )
        return "number", f"The columns {', '.join(columns)} are taken as numbers to predict."
    lists = [label[0] for label in different if isinstance(label[0], tuple)]
    if (
        lists
        and len(lists) == len(different)
        and any(map(_is_fraction, itertools.chain(*lists)))
        and are_numbers(lists)
    ):
        return "number", f"The column {columns[0]} holds lists of numbers, which are taken as numbers to predict."
    if lists:
        return "multi", f"The column {columns[0]} holds lists: any number of classes for each example."
    numbers = [_number(label[0]) for label in different]
    if all(map(math.isfinite, numbers)) and any(_is_fraction(label[0]) for label in different):
        sentence = f"The column {columns[0]} holds numbers with fractions, which are taken as numbers to predict"
        return "number", f"{sentence}; --data.label_type=class takes them as names of classes."
    return "class", ""


def _one_class(different: Sequence[tuple[Cell, ...]]) -> Labels:
    import numpy as np

    names = []
    for position, (name,) in enumerate(different):
        if isinstance(name, tuple):
            raise LabelError(position, "is a list; write --data.label_type=multi for several classes an example")
        names.append(name)
    names = _whole(names)
    classes = sorted_names(names)
    number = {name: k for k, name in enumerate(classes)}
    values = np.array([number[name] for name in names], np.int64)
    return Labels(feature="label", kind="class", values=values, classes=classes)


def _numbers(different: Sequence[tuple[Cell, ...]], columns: Sequence[str]) -> Labels:
    import numpy as np

    rows: list[list[float]] = []
    for position, label in enumerate(different):
        parts = label[0] if len(columns) == 1 and isinstance(label[0], tuple) else label
        row = [_number(part) for part in parts]
        bad = next((part for part, number in zip(parts, row, strict=True) if not math.isfinite(number)), None)
        if bad is not None:
            raise LabelError(position, f"{bad or 'an empty cell'} is not a number (1.5 is one; 1,5 is not)")
        if rows and len(row) != len(rows[0]):
            raise LabelError(position, f"{len(row)} numbers, where others have {len(rows[0])}")
        rows.append(row)
    return Labels(feature="target", kind="number", values=np.array(rows, np.float32))


def _columns_of_bits(different: Sequence[tuple[Cell, ...]], columns: Sequence[str]) -> Labels:
    import numpy as np

    rows = []
    for position, label in enumerate(different):
        for name, part in zip(columns, label, strict=True):
            if part not in _BITS:
                raise LabelError(position, f"{part or 'an empty cell'} in the column {name} is not 0 or 1")
        rows.append([_BITS[str(part)] for part in label])
    return Labels(feature="labels", kind="classes", values=np.array(rows, np.float32), classes=tuple(columns))


def _lists_of_names(different: Sequence[tuple[Cell, ...]], separator: str) -> Labels:
    import numpy as np

    rows = []
    for position, (part,) in enumerate(different):
        names = part if isinstance(part, tuple) else tuple(name.strip() for name in part.split(separator))
        given = [name for name in names if name]
        if isinstance(part, tuple) and len(set(given)) < len(given):
            raise LabelError(
                position,
                f"the list {', '.join(part)} has a name twice; write each once, or lists of 0 and 1 with a place for each class",
            )
        rows.append(set(given))
    classes = sorted_names([name for row in rows for name in row])
    values = np.array([[name in row for name in classes] for row in rows], np.float32)
    return Labels(feature="labels", kind="classes", values=values.reshape(len(rows), len(classes)), classes=classes)


def _vectors(different: Sequence[tuple[Cell, ...]]) -> "np.ndarray | None":
    """Returns lists of 0 and 1, all of one length and not shorter than two, `[different, classes]`; None of other labels."""
    import numpy as np

    rows = [label[0] for label in different if len(label) == 1 and isinstance(label[0], tuple)]
    if not rows or len(rows) < len(different) or {len(row) for row in rows} != {max(2, len(rows[0]))}:
        return None
    if not all(bit in _BITS for row in rows for bit in row):
        return None
    return np.array([[_BITS[bit] for bit in row] for row in rows], np.float32)


def _of_vectors(vectors: "np.ndarray", column: str, *, one: bool) -> Labels:
    classes = tuple(map(str, range(vectors.shape[1])))
    how = f"The column {column} holds lists of 0 and 1, one for each of {len(classes)} classes, which are called by their places, from 0"
    if one:
        return Labels(
            feature="label", kind="class", values=vectors.argmax(axis=1), classes=classes,
            note=f"{how}; each has a single 1, so an example has one class (--data.label_type=multi: any number).",
        )  # fmt: skip
    return Labels(feature="labels", kind="classes", values=vectors, classes=classes, note=f"{how}.")


def _whole(names: Sequence[str]) -> list[str]:
    """Returns the names; 1.0 is 1 where there is a 1, as some programs write the one and some the other."""
    there = set(names)
    return [short if (short := re.sub(r"^(-?\d+)\.0+$", r"\1", name)) in there else name for name in names]


def _is_fraction(text: Cell) -> bool:
    number = _number(text)
    return math.isfinite(number) and number != round(number)


def _number(text: Cell) -> float:
    """Returns the number that a cell holds; NaN for what is none."""
    if isinstance(text, tuple) or "_" in text:  # float("1_000") is 1000
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan

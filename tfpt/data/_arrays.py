"""Arrays of pixels or texts with labels, as tables: what idx, npz and arrays given in Python share."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.data import DataSource
from tfpt.data._columns import ColumnsConfig
from tfpt.data._files import Files
from tfpt.data._table import Table, TableFile
from tfpt.data._table_source import TableSource
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_SPLITS = ("train", "", "validation", "test")
_BLOCK = 256
"""Examples that are looked at together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArraysConfig(DataSource.Config):
    """Flags of the group `data`."""

    classes: tuple[str, ...] = setting((), "Names of the classes by number, from 0: cat,dog; default: the numbers.")
    label_type: str = setting(
        "auto",
        "What labels are. class: one class; multi: any number of classes, columns of 0 and 1; number: one or several numbers. auto: by "
        "looking at them.",
        choices=("auto", "class", "number", "multi"),
    )

    def __post_init__(self) -> None:
        if isinstance(self.classes, str):
            object.__setattr__(self, "classes", tuple(part.strip() for part in self.classes.split(",")))
        check(len(set(self.classes)) == len(self.classes), f"classes: {','.join(self.classes)} has a name twice")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Examples of one split.

    Attributes:
        split: `train`, `validation`, `test`, or `""` where it is yet to be split.
        inputs: pictures `[n, height, width]` or `[n, height, width, 1 | 3 | 4]`, or texts `[n]`.
        labels: `[n]` or `[n, m]`; None where there are none.
        where: what they are called, for messages.
    """

    split: str
    inputs: "np.ndarray"
    labels: "np.ndarray | None"
    where: str


class ArraySource(TableSource):
    """A source of arrays; a subclass says which.

    Examples lie in memory, and beyond 256 MiB in a file in TFPT_HOME that goes away with the process.
    """

    Config = ArraysConfig  # type: ignore[assignment]  # its columns are no flags

    def parts(self) -> Sequence[Part]:
        """Returns the arrays, at most one part a split.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        raise NotImplementedError

    def find(self) -> Files:
        """Returns a table for each split; without splits there is one, called examples."""
        splits = sorted(self._parts, key=_SPLITS.index)
        return Files(files=tuple((Path(split or "examples"), split) for split in splits), notes=self._pixels.notes)

    def columns(self) -> ColumnsConfig:
        """Returns the columns of the tables that the arrays are."""
        part = next((part for part in self._parts.values() if part.labels is not None), None)
        feature = "text" if self._pixels.shape == () else "image"
        label = _label_table(part, self.config)[0] if part is not None else ("none",)
        return ColumnsConfig(**{feature: feature}, label=label, label_type=self.config.label_type)

    def open(self, path: Path) -> TableFile:
        """Opens one table."""
        part = self._parts["" if path.name == "examples" else path.name]
        return _ArrayRows(part, self._pixels, self.config)

    def example(self, k: Any) -> dict[str, Any]:
        """Returns example k: `image`, a PNG file, or `text`; and its label."""
        import tensorflow as tf

        example = super().example(k)
        if "image" in example:
            kind = tf.uint16 if self._pixels.wide else tf.uint8
            pixels = tf.reshape(tf.io.decode_raw(example["image"], kind), self._pixels.shape)
            example["image"] = tf.io.encode_png(pixels)
        return example

    @functools.cached_property
    def table(self) -> Table:
        """All examples; the arrays are let go, because the table has a copy."""
        table = super().table
        del self.__dict__["_parts"]
        return table

    @functools.cached_property
    def _parts(self) -> Mapping[str, Part]:
        return {part.split: part for part in self.parts()}

    @functools.cached_property
    def _pixels(self) -> "Pixels":
        return Pixels.of(list(self._parts.values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """How numbers become pixels.

    Attributes:
        shape: height, width and channels; empty for texts.
        wide: whether pixels have 16 bits.
        scale: what numbers are multiplied with before they are rounded.
        notes: sentences for the user.
    """

    shape: tuple[int, ...]
    wide: bool = False
    scale: float = 1.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "Pixels":
        """Looks at all arrays.

        Raises:
            UserError: they are neither pictures of one size nor texts, or not as many as labels.
        """
        for part in parts:
            if part.labels is not None and len(part.labels) != len(part.inputs):
                raise UserError(f"{part.where} has {len(part.inputs)} examples and {len(part.labels)} labels.")
            if not len(part.inputs):
                raise UserError(f"{part.where} holds no examples.")
        if all(part.inputs.ndim == 1 and part.inputs.dtype.kind in "USTO" for part in parts):
            return cls(shape=())
        shapes = {(*part.inputs.shape[1:], *[1] * (part.inputs.ndim == 3)) for part in parts}
        shape = shapes.pop()
        if (
            shapes
            or len(shape) != 3
            or shape[2] not in (1, 3, 4)
            or any(p.inputs.dtype.kind not in "buif" for p in parts)
        ):
            found = ", ".join(f"{p.where} is {p.inputs.dtype} of the shape {list(p.inputs.shape)}" for p in parts)
            raise UserError(
                f"{found}; pictures are numbers of the shape [examples, height, width] or [examples, height, width, 1, 3 or 4], "
                "all of one size; texts are of the shape [examples]."
            )
        low, high = min(float(p.inputs.min()) for p in parts), max(float(p.inputs.max()) for p in parts)
        kinds = {part.inputs.dtype for part in parts}
        wide = {str(kind) for kind in kinds} == {"uint16"}
        if not (low >= 0 and high <= (65535 if wide else 255)):  # false for NaN, too
            raise UserError(f"{parts[0].where} holds pixels from {low:g} to {high:g}; give 0 to 255, or 0 to 1.")
        if high > 1 or not any(kind.kind in "fb" for kind in kinds):
            return cls(shape=shape, wide=wide)
        note = "Pixels are numbers from 0 to 1, which are taken as 0 to 255 and rounded."
        return cls(shape=shape, scale=255.0, notes=(note,))

    def bytes_of(self, block: "np.ndarray") -> list[bytes]:
        """Returns the pixels of each picture, `[n, ...]`, without a header."""
        import numpy as np

        kind = np.dtype("<u2") if self.wide else np.dtype(np.uint8)
        values = block if block.dtype == kind else np.rint(block.astype(np.float64) * self.scale).astype(kind)
        return [value.tobytes() for value in np.ascontiguousarray(values)]


class _ArrayRows:
    """One part as a table."""

    guessed = False

    def __init__(self, part: Part, pixels: Pixels, config: Any) -> None:
        self._part, self._pixels, self._config = part, pixels, config
        names: tuple[str, ...] = ()
        self._labels: np.ndarray | None = None
        if part.labels is not None:
            names, self._labels = _label_table(part, config)
        self.columns: Sequence[str] = ("image" if pixels.shape else "text", *names)
        self.first: Sequence[Any] = next(self.rows(self.columns))[1]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1, and picture or text with its labels, which is all that there is to want."""
        for start in range(0, len(self._part.inputs), _BLOCK):
            block = self._part.inputs[start : start + _BLOCK]
            inputs = self._pixels.bytes_of(block) if self._pixels.shape else _texts(block, self._part.where)
            labels = [()] * len(block) if self._labels is None else self._labels[start : start + _BLOCK].tolist()
            for number, (value, label) in enumerate(zip(inputs, labels, strict=True), start + 1):
                yield number, (value, *label)


def _label_table(part: Part, config: Any) -> tuple[tuple[str, ...], "np.ndarray"]:
    """Returns the names of the label columns, and the labels, `[n, columns]`; of one class an example, its name where there are names.

    Raises:
        UserError: they are neither `[n]` nor `[n, m]`, or there are other classes than names.
    """
    import numpy as np

    labels = np.asarray(part.labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2):
        raise UserError(
            f"{part.where} has labels of the shape {list(labels.shape)}; they are [examples] or [examples, n]."
        )
    one_hot = labels.ndim == 2 and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    if one_hot and config.label_type in ("auto", "class"):
        labels = labels.argmax(axis=1)
    if labels.ndim == 2:
        names = tuple(config.classes) or tuple(map(str, range(labels.shape[1])))
        if len(names) != labels.shape[1] or config.label_type == "class":
            raise UserError(
                f"{part.where} has {labels.shape[1]} labels an example (--data.label_type={config.label_type}, --data.classes="
                f"{','.join(config.classes)}); one class is one number, and several columns have a name each."
            )
        return names, labels
    whole = labels.dtype.kind in "iub" or (labels.dtype.kind == "f" and bool((labels == np.rint(labels)).all()))
    if whole and config.label_type != "number":
        labels = labels.astype(np.int64)
        if config.classes:
            if labels.min() < -1 or labels.max() >= len(config.classes):
                raise UserError(
                    f"{part.where} has labels from {labels.min()} to {labels.max()}, and --data.classes names {len(config.classes)}, from 0."
                )
            labels = np.array([*config.classes, ""], object)[labels]  # -1 is no label
    return ("label",), labels[:, None]


def _texts(block: "np.ndarray", where: str) -> list[Any]:
    values = block.tolist()
    bad = next((value for value in values if not isinstance(value, str | bytes)), "")
    if not isinstance(bad, str | bytes):
        raise UserError(f"{where} holds a {type(bad).__name__} where texts are expected.")
    return values

"""What a data source holds, looked at before anything is decided: sizes, classes, lengths, shares."""

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpt.config import Input
from tfpt.data import DataSource
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.training.splits import Splits

SAMPLE = 200
"""As many examples are looked at one by one."""

_LABELS = ("label", "labels", "target", "tags", "answers")
"""The features that say what is to be learned, as the tasks name them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """Sides of a sample of pictures, in pixels.

    Attributes:
        width: median.
        height: median.
        short: median of the shorter side.
        elongation: median of the longer side divided by the shorter.
    """

    width: int
    height: int
    short: int
    elongation: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """Lengths of a sample of texts, in words between spaces; of several texts in an example, all together.

    Attributes:
        median: half of them are longer.
        long: one in twenty is longer.
        foreign: share of letters outside of ASCII.
    """

    median: int
    long: int
    foreign: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstLook:
    """What a data source holds.

    Attributes:
        modality: `image` or `text`.
        label: the feature that is to be learned: `label`, `labels`, `target`, `tags` or `answers`.
        classes: their names.
        counts: examples of each class, where an example has one.
        examples: split -> how many.
        own_split: whether the data says itself which example is where.
        pictures: of pictures.
        texts: of texts.
        notes: the source's own.
    """

    modality: str
    label: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    examples: Mapping[str, int]
    own_split: bool
    pictures: Pictures | None
    texts: Texts | None
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """How many times the largest class is as large as the smallest."""
        return max(self.counts) / max(1, min(self.counts)) if self.counts else 1.0


def look(source: DataSource, options: Input) -> FirstLook:
    """Looks at a data source; reads every file once for its digest, and a sample of examples.

    Args:
        source: the data.
        options: how it is split.

    Raises:
        UserError: it holds neither pictures nor texts, or nothing that could be learned.
    """
    from tfpt.training.splits import split

    info = source.info()
    kinds = set(info.features.values())
    modality = next((kind for kind in ("image", "text") if kind in kinds), "")
    label = next((name for name in _LABELS if name in info.features), "")
    if not modality or not label:
        raise UserError(
            f"--data holds {', '.join(info.features) or 'nothing'}: no task of tfpt learns from that; a table needs a column of labels "
            "(--data.label=COLUMN)."
        )
    index = source.index()
    splits: Splits = split(index, source.digests(), options, classes=info.classes)
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    counts = [] if index.labels is None else np.bincount(index.labels, minlength=len(info.classes)).tolist()
    sample = _sample(source, parts["train"], [name for name, kind in info.features.items() if kind == modality])
    return FirstLook(
        modality=modality,
        label=label,
        classes=info.classes,
        counts=tuple(counts),
        examples={name: len(examples) for name, examples in parts.items()},
        own_split=any(index.splits),
        pictures=_pictures(sample) if modality == "image" else None,
        texts=_texts(sample) if modality == "text" else None,
        notes=(*info.notes, *splits.notes),
    )


def _sample(source: DataSource, examples: np.ndarray, features: Sequence[str]) -> list[list[bytes]]:
    """Returns the raw features of examples that are spread over the training split."""
    import tensorflow as tf

    chosen = np.unique(np.linspace(0, len(examples) - 1, min(SAMPLE, len(examples))).astype(int))
    found = [source.example(tf.constant(int(examples[k]), tf.int64)) for k in chosen]
    return [[bytes(example[name].numpy()) for name in features if name in example] for example in found]


def _pictures(sample: Iterable[Sequence[bytes]]) -> Pictures | None:
    from PIL import Image, UnidentifiedImageError

    sides: list[tuple[int, int]] = []
    for raw in sample:
        try:
            sides += [Image.open(io.BytesIO(one)).size for one in raw]
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            continue  # training tells of what cannot be decoded
    if not sides:
        return None
    array = np.array(sides)
    return Pictures(
        width=_median(array[:, 0]),
        height=_median(array[:, 1]),
        short=_median(array.min(axis=1)),
        elongation=float(np.median(array.max(axis=1) / array.min(axis=1))),
    )


def _texts(sample: Sequence[Sequence[bytes]]) -> Texts | None:
    texts = [" ".join(one.decode("utf-8", "replace") for one in raw) for raw in sample]
    if not texts:
        return None
    words = [len(text.split()) for text in texts]
    letters = [character for text in texts for character in text if character.isalpha()]
    return Texts(
        median=_median(words),
        long=int(np.quantile(words, 0.95)),
        foreign=sum(not letter.isascii() for letter in letters) / max(1, len(letters)),
    )


def _median(values: Any) -> int:
    return int(np.median(values))

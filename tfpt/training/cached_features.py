"""What is at the cuts of kept examples, as the batches that a head or the rest of a trunk trains on."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.training.feature_rows import Rows
from tfpt.training.from_generator import from_generator
from tfpt.training.pipeline import planned_rows
from tfpt.untuned import untuned

SMALL_FEATURES = 2**15
"""Bytes an example up to which kept features are evaluated in larger batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """A list of examples, in one or several views.

    Attributes:
        rows: the tensors of a batch, flattened.
        pack: gives a flat batch its structure.
        slots: `[examples]` int64 by an example's index: where it is within a view.
        views: how often the list is there.
    """

    rows: Sequence[Rows]
    pack: Callable[[Sequence[Any]], dict[str, Any]]
    slots: np.ndarray
    views: int

    @property
    def largest_row(self) -> int:
        """Bytes of an example, or of one of its places."""
        return max(rows.layout.item_bytes for rows in self.rows)

    @property
    def varies(self) -> bool:
        """Tells whether examples differ in length."""
        return any(rows.layout.varies for rows in self.rows)

    @property
    def small(self) -> bool:
        """Tells whether many examples make a batch that is no burden."""
        return not self.varies and self.largest_row <= SMALL_FEATURES

    def batches(self, rows: Callable[[], Iterator[tuple[int, np.ndarray]]], width: int | None) -> tf.data.Dataset:
        """Returns the batches of a plan's rows, in their order; epoch e gets view e, in turn.

        Args:
            rows: makes an iterator of (epoch, `[batch]` int64 row).
            width: length of every row; None where it differs.
        """
        own = (tf.TensorSpec((), tf.int64), tf.TensorSpec((width,), tf.int64))
        size = len(self.rows[0]) // self.views
        mapped = [k for k, one in enumerate(self.rows) if not one.in_memory]
        specs = tuple(tf.TensorSpec((width, *self.rows[k].shape), self.rows[k].layout.dtype) for k in mapped)

        def read() -> Iterator[Any]:
            for epoch, row in rows():
                slots = self.slots[np.where(row < 0, ~row, row)] + epoch % self.views * size
                yield (epoch, row), tuple(self.rows[k].read(slots) for k in mapped)

        def batch(planned: tuple[tf.Tensor, tf.Tensor], found: Sequence[tf.Tensor]) -> dict[str, Any]:
            epoch, row = planned
            example = tf.where(row < 0, -row - 1, row)
            slot = tf.gather(slots, example) + epoch % self.views * size
            from_disk = dict(zip(mapped, found, strict=True))
            made = self.pack([from_disk[k] if k in from_disk else one.gather(slot) for k, one in enumerate(self.rows)])
            made["weight"] *= tf.cast(row >= 0, made["weight"].dtype)
            return {**made, "example": example, "ok": tf.ones_like(example, tf.bool)}

        with tf.device("CPU:0"):
            slots = tf.constant(self.slots)
        if not mapped:
            found = planned_rows(rows, width)
            plain = tf.autograph.experimental.do_not_convert(lambda epoch, row: batch((epoch, row), ()))
            return untuned(found.map(plain).prefetch(2), rewritten=False)  # `rows` are captured
        planned = from_generator(read, (own, specs))
        return untuned(planned.map(tf.autograph.experimental.do_not_convert(batch)).prefetch(2), rewritten=False)

    def evaluation_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the batches of an evaluation plan's rows."""
        return self.batches(lambda: iter([(0, row) for row in rows]), rows.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CachedFeatures:
    """Training and validation examples from the cut on.

    Attributes:
        train: examples.
        validation: examples, if there are any.
        engine: that computed the training examples.
        precision: in which it did.
        found: whether an earlier run has left all of it.
    """

    train: Kept
    validation: Kept | None
    engine: str
    precision: str
    found: bool = False

    def training_batches(
        self, rows: Callable[[], Iterator[tuple[int, np.ndarray]]], *, width: int | None
    ) -> tf.data.Dataset:
        """Returns the batches of a plan's rows, in their order."""
        return self.train.batches(rows, width)

    def whole(self, examples: np.ndarray) -> dict[str, Any]:
        """Returns training examples as one batch, of the first view."""
        (batch,) = self.train.batches(lambda: iter([(0, np.asarray(examples))]), len(examples))
        return batch

    def evaluation_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the batches of an evaluation plan's rows."""
        assert self.validation is not None, "there are no validation examples"
        return self.validation.evaluation_batches(rows)

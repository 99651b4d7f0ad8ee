"""A small data set's batches, made once."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

KEPT_BYTES = 32 * 2**20


class KeptBatches:
    """The batches of a dataset that gives the same each time; the second time they are in memory, where they are few.

    Args:
        batches: of one device; nests of tensors.
        most: bytes of all of them above which they are made each time.
    """

    def __init__(self, batches: tf.data.Dataset, most: int = KEPT_BYTES) -> None:
        self._batches = batches
        self._left = most
        self._kept: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Any] = []
        left = self._left
        for batch in self._batches:
            if left >= 0:
                left -= sum(map(_size, tf.nest.flatten(batch, expand_composites=True)))
                kept.append(batch)
            if left < 0:
                kept.clear()
            yield batch
        if left >= 0:
            self._kept = kept
        else:
            self._left = -1


def _size(tensor: tf.Tensor) -> int:
    if tensor.dtype == tf.string:
        return int(tf.reduce_sum(tf.strings.length(tensor)))
    return int(tensor.dtype.size * tf.size(tensor))

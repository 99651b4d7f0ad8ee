"""A small data set's batches, made once."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

KEPT_BYTES = 32 * 2**20


class KeptBatches:
    """The batches of an evaluation plan; the second time they are in memory, where they are few and every example could be read.

    Args:
        batches: dictionaries of tensors; `ok` tells which examples could be read.
        most: bytes of all of them above which they are made each time.
    """

    def __init__(self, batches: tf.data.Dataset, most: int = KEPT_BYTES) -> None:
        self._batches = batches
        self._most = most
        self._kept: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Any] | None = []
        left = self._most
        for batch in self._batches:
            left -= sum(map(_size, tf.nest.flatten(batch, expand_composites=True)))
            if left < 0 or not np.all(batch["ok"]):  # what could not be read may be readable the next time
                kept = None
            if kept is not None:
                kept.append(batch)
            yield batch
        self._kept = kept


def _size(tensor: tf.Tensor) -> int:
    count = math.prod(tensor.shape)
    if tensor.dtype == tf.string:
        return 24 * count + int(tf.reduce_sum(tf.strings.length(tensor)))
    return int(tensor.dtype.size * count)

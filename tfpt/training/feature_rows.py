"""One tensor of many examples: one after the other, in memory or in a file that is mapped into it."""

import collections
import dataclasses
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from tfpt.training.in_place import empty, in_place

_CHUNK_BYTES = 2**26
"""Enough for malloc to give it back to the system when it is freed."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shape and type of a tensor for one example; at most one dimension varies, and before it all are 1.

    Attributes:
        shape: without the batch dimension; None where it varies.
        dtype: NumPy's.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, spec: Any) -> "Layout | None":
        """Returns the layout of a batch with this shape and dtype; None where more varies than can be kept."""
        layout = cls(tuple(spec.shape[1:]), np.dtype(tf.as_dtype(spec.dtype).as_numpy_dtype))
        varying = [k for k, size in enumerate(layout.shape) if size is None]
        fits = not varying or (len(varying) == 1 and all(size == 1 for size in layout.shape[: varying[0]]))
        return layout if fits else None

    @property
    def varies(self) -> bool:
        """Tells whether examples differ in length."""
        return None in self.shape

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of one entry: of an example, or of one place in it where examples differ in length."""
        return tuple(s for s in self.shape[self.shape.index(None) + 1 :] if s) if self.varies else self._fixed

    @property
    def item_bytes(self) -> int:
        """The size of one entry."""
        return math.prod(self.item) * self.dtype.itemsize

    @property
    def _fixed(self) -> tuple[int, ...]:
        return tuple(size for size in self.shape if size is not None)

    def padded(self, batch: int, longest: int) -> tuple[int, ...]:
        """Returns the shape of a batch of examples of which the longest has so many places."""
        return (batch, *(longest if size is None else size for size in self.shape))


class Rows:
    """A tensor of many examples.

    Args:
        layout: of one example.
        values: `[entries, *item]`; a memory-mapped array stays one, another is locked.
        lengths: entries of each example, where these differ.
    """

    def __init__(self, layout: Layout, values: np.ndarray, lengths: np.ndarray | None) -> None:
        self.layout = layout
        self.lengths = lengths
        self.in_memory = not isinstance(values, np.memmap)
        self._starts = np.cumsum([0, *lengths]) if lengths is not None else None
        if self.in_memory:
            tensor = in_place(values)
            with tf.device("CPU:0"):
                self._tensor = (
                    tf.RaggedTensor.from_row_splits(tensor, self._starts, validate=False)
                    if self._starts is not None
                    else tensor
                )
        self.values = values

    def __len__(self) -> int:
        return len(self.values if self.lengths is None else self.lengths)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of an example; None where examples differ in length, which those that were padded to one do not."""
        if self.lengths is None or not len(self.lengths) or self.lengths.min() < self.lengths.max():
            return self.layout.shape
        return tuple(int(self.lengths[0]) if size is None else size for size in self.layout.shape)

    def gather(self, slots: tf.Tensor) -> tf.Tensor:
        """Returns the examples in these slots, padded with zeros to the longest; in the graph, from memory."""
        found = tf.gather(self._tensor, slots)
        if self.lengths is None:
            return found
        dense = found.to_tensor()
        made = tf.reshape(dense, self.layout.padded(tf.shape(dense)[0], tf.shape(dense)[1]))
        return tf.ensure_shape(made, [slots.shape[0], *self.shape])

    def read(self, slots: np.ndarray) -> np.ndarray:
        """Returns the same with NumPy, from wherever the values are."""
        if self._starts is None or self.lengths is None:
            return np.asarray(self.values[slots])
        lengths = self.lengths[slots]
        found = np.zeros((len(slots), lengths.max(initial=0), *self.layout.item), self.layout.dtype)
        for row, slot, length in zip(found, slots, lengths, strict=True):
            row[:length] = self.values[self._starts[slot] : self._starts[slot] + length]
        return found.reshape(self.layout.padded(len(slots), found.shape[1]))


class Recorder:
    """Takes batches of a tensor, one after the other.

    Args:
        layout: of one example.
        file: where the values go; None: they stay in memory.

    Attributes:
        checksum: CRC-32 of what went into the file.
    """

    def __init__(self, layout: Layout, file: BinaryIO | None = None) -> None:
        self.layout = layout
        self.file = file
        self.checksum = 0
        self._chunks: collections.deque[np.ndarray] = collections.deque()
        self._free = 0
        self._lengths: list[int] = []

    def add(self, batch: np.ndarray) -> None:
        """Takes `[batch, *shape]` values."""
        if self.layout.varies:
            length = batch.shape[1 + self.layout.shape.index(None)]
            self._lengths += [length] * len(batch)
        self._put(np.ascontiguousarray(batch, self.layout.dtype).reshape(-1, *self.layout.item))

    def take(self, rows: Rows) -> None:
        """Takes all examples of a tensor."""
        self._lengths += [] if rows.lengths is None else rows.lengths.tolist()
        self._put(rows.values)

    @property
    def lengths(self) -> np.ndarray | None:
        """Entries of each example, where these differ."""
        return np.array(self._lengths, np.int64) if self.layout.varies else None

    def rows(self) -> Rows:
        """Returns what was taken, where it stayed in memory, and forgets it: never are there two copies of all of it."""
        entries = sum(map(len, self._chunks)) - self._free
        values = empty((entries, *self.layout.item), self.layout.dtype)
        filled = 0
        while self._chunks:
            chunk = self._chunks.popleft()[: entries - filled]
            values[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        self._free = 0
        return Rows(self.layout, values, self.lengths)

    def _put(self, values: np.ndarray) -> None:
        if self.file is not None:
            plain = values.reshape(-1).view(np.uint8)
            plain.tofile(self.file)
            self.checksum = zlib.crc32(plain.data, self.checksum)
            return
        while len(values):
            if not self._free:
                self._add_chunk(len(values))
            chunk = self._chunks[-1]
            fits = values[: self._free]
            start = len(chunk) - self._free
            chunk[start : start + len(fits)] = fits
            self._free -= len(fits)
            values = values[len(fits) :]

    def _add_chunk(self, wanted: int) -> None:
        """Makes room for so many entries, or more: twice what the last chunk had, up to a size."""
        most = max(1, _CHUNK_BYTES // max(1, self.layout.item_bytes))
        self._free = min(most, max(wanted, 2 * len(self._chunks[-1])) if self._chunks else wanted)
        self._chunks.append(np.empty((self._free, *self.layout.item), self.layout.dtype))


def map_file(path: Path, layout: Layout, lengths: np.ndarray | None, *, count: int, in_memory: bool) -> Rows:
    """Returns the tensor that a file holds.

    Args:
        path: of the values, as `Recorder` wrote them.
        layout: of one example.
        lengths: as `Recorder.lengths`.
        count: examples.
        in_memory: read it, instead of mapping it.

    Raises:
        OSError: it cannot be read.
        ValueError: its size is not what it should be.
    """
    entries = count if lengths is None else int(lengths.sum())
    if path.stat().st_size != entries * layout.item_bytes or (lengths is not None and len(lengths) != count):
        raise ValueError(f"{path} does not have the size it should have")
    shape = (entries, *layout.item)
    if in_memory or not entries:
        values: Any = empty(shape, layout.dtype)
        with path.open("rb") as file:
            if file.readinto(values.reshape(-1).view(np.uint8)) != values.nbytes:
                raise ValueError(f"{path} ends early")
    else:
        values = np.memmap(path, layout.dtype, "r", shape=shape)
    return Rows(layout, values, lengths)

"""Many texts in little space: one after the other, in memory, or in a file when they take too much of it.

The file lies in TFPT_HOME, has no name and goes away with the process. It is a TFRecord file, because of these alone TensorFlow reads a
part without reading all before it. What stays in memory is 16 bytes a text.
"""

import array
import dataclasses
import functools
import tempfile
from typing import IO, TYPE_CHECKING, Any

from tfpt.data._record_file import AROUND, BEFORE, record_at
from tfpt.weights.home import home

if TYPE_CHECKING:
    import numpy as np

MEMORY = 256 << 20
"""Texts of more bytes than this lie in a file."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Texts that TensorFlow reads one by one.

    Attributes:
        starts: `[texts]` int64, where each begins, in bytes; in a file, where its record does.
        lengths: `[texts]` int64, in bytes.
        content: all of them: bytes, or an open TFRecord file that has no name any more.
    """

    starts: "np.ndarray"
    lengths: "np.ndarray"
    content: bytes | IO[bytes]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, k: int) -> bytes:
        start, length = int(self.starts[k]), int(self.lengths[k])
        if isinstance(self.content, bytes):
            return self.content[start : start + length]
        self.content.seek(start + BEFORE)
        return self.content.read(length)

    def only(self, kept: "np.ndarray") -> "Texts":
        """Returns the texts for which `kept` (`[texts]` bool) is true."""
        return dataclasses.replace(self, starts=self.starts[kept], lengths=self.lengths[kept])

    def read(self, k: Any) -> Any:
        """Returns text k as a scalar string tensor, with TensorFlow ops.

        Args:
            k: scalar int64 tensor.
        """
        import tensorflow as tf

        starts, lengths, content = self._tensors
        start, length = tf.gather(starts, k), tf.gather(lengths, k)
        if isinstance(self.content, bytes):
            return tf.strings.substr(content, start, length)
        return record_at(content, start, length)

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):  # one constant for all graphs that are traced
            content = self.content if isinstance(self.content, bytes) else f"/proc/self/fd/{self.content.fileno()}"
            return tf.constant(self.starts), tf.constant(self.lengths), tf.constant(content)


class TextsBuilder:
    """Collects texts for `Texts`."""

    def __init__(self) -> None:
        self._lengths = array.array("q")
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def append(self, text: bytes) -> None:
        """Adds one text."""
        self._lengths.append(len(text))
        if self._writer is not None:
            self._writer.write(text)
            return
        self._memory += text
        if len(self._memory) > MEMORY:
            self._move_to_file()

    def build(self) -> Texts:
        """Returns the texts; nothing can be added afterwards."""
        import numpy as np

        if self._writer is not None:
            self._writer.close()
        content = bytes(self._memory) if self._file is None else self._file
        self._memory = bytearray()
        lengths = np.frombuffer(self._lengths, np.int64)
        ends = np.cumsum(lengths + (0 if isinstance(content, bytes) else AROUND))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
        return Texts(starts=starts, lengths=lengths, content=content)

    def _move_to_file(self) -> None:
        import tensorflow as tf

        home().mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=home())  # noqa: SIM115 - lives as long as the texts
        self._writer = tf.io.TFRecordWriter(f"/proc/self/fd/{self._file.fileno()}")
        start = 0
        for length in self._lengths:
            self._writer.write(bytes(self._memory[start : start + length]))
            start += length
        self._memory = bytearray()

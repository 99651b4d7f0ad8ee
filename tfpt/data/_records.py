"""Records of TFRecord files: read once in order to find out where each is, and then any of them, where it is."""

import array
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.data._record_file import AROUND, record_at
from tfpt.errors import UserError
from tfpt.untuned import untuned

if TYPE_CHECKING:
    import numpy as np

_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """Records of one file, one after the other: `take` of them after the first `skip`; all that follow when it is -1."""

    file: str
    skip: int = 0
    take: int = -1


class RecordRows:
    """`tf.train.Example` records as rows, as `_table.TableFile`; keys are columns.

    Args:
        where: what is read, for messages.
        stretches: the records, in order.
        class_names: key -> names of classes, if its numbers are those of classes.

    Attributes:
        files: number in `stretches` of each row that was read.
        starts: where it begins in the file, in bytes.
        lengths: of its content, in bytes.
    """

    guessed = False

    def __init__(
        self, where: str, stretches: Sequence[Stretch], class_names: Callable[[str], Sequence[str] | None]
    ) -> None:
        self._where, self.stretches, self._class_names = where, tuple(stretches), class_names
        self.files, self.starts, self.lengths = array.array("q"), array.array("q"), array.array("q")
        first = next(self._examples(), None)
        if first is None:
            raise UserError(f"{where} holds no records.")
        self.columns: Sequence[str] = sorted(first)
        self.first: Sequence[Any] = [first[key] for key in self.columns]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and the values of the wanted keys of each record; a key that is not there is nothing."""
        for places in (self.files, self.starts, self.lengths):
            del places[:]
        names = [self._class_names(key) for key in wanted]
        for number, example in enumerate(self._examples(), 1):
            yield (
                number,
                [
                    example.get(key) if known is None else self._named(key, example.get(key), known)
                    for key, known in zip(wanted, names, strict=True)
                ],
            )

    def _examples(self) -> Iterator[dict[str, Any]]:
        from google.protobuf.message import DecodeError
        from tensorflow.core.example.example_pb2 import Example

        for number, stretch in enumerate(self.stretches):
            for place, (start, content) in enumerate(_contents(stretch), stretch.skip + 1):
                self.files.append(number)
                self.starts.append(start)
                self.lengths.append(len(content))
                try:
                    features = Example.FromString(content).features.feature
                except DecodeError as error:
                    raise UserError(f"{stretch.file}: record {place} is not a tf.train.Example.") from error
                if not features:
                    raise UserError(f"{stretch.file}: record {place} is a tf.train.Example without any feature.")
                yield {key: _value(feature) for key, feature in features.items()}

    def _named(self, key: str, value: Any, names: Sequence[str]) -> Any:
        """Returns the name of a class by its number, nothing for -1; what is no whole number as it is."""
        if isinstance(value, list):
            return [self._named(key, part, names) for part in value]
        if not isinstance(value, int):
            return value
        if not -1 <= value < len(names):
            raise UserError(f"{self._where}: {key} is {value}, and there are {len(names)} names of classes, from 0.")
        return names[value] if value >= 0 else None


def _contents(stretch: Stretch) -> Iterator[tuple[int, bytes]]:
    """Yields where each record begins, and its content; checksums are checked."""
    import tensorflow as tf

    start = 0
    try:
        with tf.io.gfile.GFile(stretch.file, "rb") as file:
            if file.read(2) == _GZIP:
                raise UserError(
                    f"{stretch.file} is compressed, so no record can be found in it; unpack it with gunzip."
                )
        end = stretch.skip + stretch.take if stretch.take >= 0 else None
        for number, content in enumerate(untuned(tf.data.TFRecordDataset(stretch.file)).as_numpy_iterator()):
            if end is not None and number >= end:
                return
            if number >= stretch.skip:
                yield start, content
            start += len(content) + AROUND
    except tf.errors.DataLossError as error:
        raise UserError(f"{stretch.file} is damaged, or is no TFRecord file, at byte {start}.") from error
    except tf.errors.OpError as error:
        raise UserError(f"{stretch.file} cannot be read: {error.message.splitlines()[0]}.") from error


def _value(feature: Any) -> Any:
    """Returns a feature's value: one, a list of several, or None where there is none."""
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return values if len(values) > 1 else (values[0] if values else None)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where records are.

    Attributes:
        paths: the files.
        files: `[records]` int64, number of the file of each record.
        starts: `[records]` int64, where it begins, in bytes.
        lengths: `[records]` int64, of its content, in bytes.
    """

    paths: Sequence[str]
    files: "np.ndarray"
    starts: "np.ndarray"
    lengths: "np.ndarray"

    @classmethod
    def of(cls, opened: Sequence[RecordRows]) -> "Places":
        """Returns where the rows of several tables are, after these were read."""
        import numpy as np

        firsts = np.cumsum([0, *(len(rows.stretches) for rows in opened)])
        files = [np.array(rows.files, np.int64) + first for rows, first in zip(opened, firsts, strict=False)]
        return cls(
            paths=[stretch.file for rows in opened for stretch in rows.stretches],
            files=np.concatenate(files),
            starts=np.concatenate([np.array(rows.starts, np.int64) for rows in opened]),
            lengths=np.concatenate([np.array(rows.lengths, np.int64) for rows in opened]),
        )

    def only(self, kept: "np.ndarray") -> "Places":
        """Returns the records with these numbers, `[records]` int64."""
        return dataclasses.replace(self, files=self.files[kept], starts=self.starts[kept], lengths=self.lengths[kept])

    def read(self, k: Any) -> Any:
        """Returns the content of record k as a scalar string tensor, with TensorFlow ops.

        Args:
            k: scalar int64 tensor.
        """
        import tensorflow as tf

        paths, files, starts, lengths = self._tensors
        return record_at(tf.gather(paths, tf.gather(files, k)), tf.gather(starts, k), tf.gather(lengths, k))

    @functools.cached_property
    def _tensors(self) -> tuple[Any, ...]:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):  # one constant for all graphs that are traced
            return tuple(tf.constant(value) for value in (self.paths, self.files, self.starts, self.lengths))

"""What tfrecord and tfds share: a source whose examples stay in TFRecord files."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt.data._records import Places, RecordRows, Stretch
from tfpt.data._table import Table, TableFile, read_table
from tfpt.data._tagged_table import TaggedTableSource, column_called

_ANSWERS = {"text": "answers/text", "answer_start": "answers/answer_start"}
"""Keys that stand for a column of answers, as TensorFlow Datasets writes SQuAD."""


class RecordSource(TaggedTableSource):
    """A source of `tf.train.Example` records; a subclass says which.

    All records are read once when a run starts, for their labels and content hashes; each is read again where it is when
    it is needed, and in memory stay about 80 bytes of it. Sentences with tags and questions with answers are kept in memory.
    """

    def stretches(self, path: Path) -> Sequence[Stretch]:
        """Returns the records of one of the tables that `find` returned."""
        raise NotImplementedError

    def class_names(self, key: str) -> Sequence[str] | None:
        """Returns the names of classes, if the numbers of a key are those of classes."""
        return None

    def open(self, path: Path) -> RecordRows:
        """Opens one table; its first record is checked."""
        rows = RecordRows(str(path), self.stretches(path), self.class_names)
        self._opened.append(rows)
        return rows

    def open_texts(self, path: Path) -> TableFile:
        """Opens one table, with texts in place of bytes."""
        rows = RecordRows(str(path), self.stretches(path), self.class_names)
        given = {role: getattr(self.config, role) for role in ("tokens", "tags")}
        lists = [column_called(rows.columns, role, name, path) for role, name in given.items() if name]
        return _TextRows(rows, lists=lists)

    def example(self, k: Any) -> dict[str, Any]:
        """Returns record k as `csv` returns a row, read from its file."""
        import tensorflow as tf

        if self._tagged or self._questions:
            return super().example(k)
        columns = self.table.columns
        wanted = {key: tf.io.FixedLenFeature([], tf.string, "") for key in columns.values()}
        parsed = tf.io.parse_single_example(self._places.read(k), wanted)
        return {**{feature: parsed[key] for feature, key in columns.items()}, **self.labels_of(k)}

    @functools.cached_property
    def table(self) -> Table:
        """Labels and hashes of all records; these are read at first use."""
        self._opened: list[RecordRows] = []
        return read_table(self.find(), self.config, self.open, keep=False)

    @functools.cached_property
    def _places(self) -> Places:
        import numpy as np

        table = self.table
        firsts = np.cumsum([0, *(len(rows.files) for rows in self._opened)])
        return Places.of(self._opened).only(firsts[table.file] + table.line - 1)


class _TextRows:
    """Records as rows of texts and lists, as files of text have them.

    Args:
        rows: the records.
        lists: keys that hold a list, of which a record with one part does not tell.
    """

    guessed = False

    def __init__(self, rows: RecordRows, *, lists: Sequence[str]) -> None:
        self._rows, self._lists = rows, lists
        answers = ["answers"] if set(_ANSWERS.values()) <= set(rows.columns) else []
        self.columns: Sequence[str] = [*rows.columns, *answers]
        self.first: Sequence[Any] = [*rows.first, *[None] * len(answers)]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and the values of the wanted keys of each record."""
        keys = list(dict.fromkeys(key for name in wanted for key in self._keys(name)))
        for number, values in self._rows.rows(keys):
            by_key = dict(zip(keys, map(_as_text, values), strict=True))
            yield number, [self._cell(name, by_key) for name in wanted]

    def _keys(self, name: str) -> Sequence[str]:
        return (name,) if name in self._rows.columns else tuple(_ANSWERS.values())

    def _cell(self, name: str, values: Mapping[str, Any]) -> Any:
        if name not in values:
            return {part: _as_list(values[key]) for part, key in _ANSWERS.items()}
        return _as_list(values[name]) if name in self._lists else values[name]


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]

"""What tfrecord and tfds share: a source whose examples stay in TFRecord files."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.data._records import Places, RecordRows, Stretch
from tfpt.data._table import Table, read_table
from tfpt.data._table_source import TableSource


class RecordSource(TableSource):
    """A source of `tf.train.Example` records; a subclass says which.

    All records are read once when a run starts, for their labels and content hashes; each is read again where it is when
    it is needed, and in memory stay about 80 bytes of it.
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

    def example(self, k: Any) -> dict[str, Any]:
        """Returns record k as `csv` returns a row, read from its file."""
        import tensorflow as tf

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

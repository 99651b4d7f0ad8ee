"""What csv, jsonl, parquet, arrow and hf share: a source whose files are tables."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.data import DataSource, Index, Info, _tiff
from tfpt.data._columns import ColumnsConfig
from tfpt.data._content import DIGEST, content_hash, picture_digests
from tfpt.data._files import Files, find_files
from tfpt.data._table import Table, TableFile, read_table


class TableSource(DataSource):
    """A source whose files are tables; a subclass says how one is opened."""

    Config = ColumnsConfig
    name = ""
    endings: tuple[str, ...] = ()

    def open(self, path: Path) -> TableFile:
        """Opens one file.

        Raises:
            UserError: it cannot be read.
        """
        raise NotImplementedError

    def find(self) -> Files:
        """Finds the files.

        Raises:
            UserError: there are none.
        """
        return find_files(self.argument, source=self.name, endings=self.endings)

    def columns(self) -> ColumnsConfig:
        """Returns what the columns are."""
        config: ColumnsConfig = self.config
        return config

    def origin(self) -> str:
        """Returns where the data is, for the report."""
        return f"{self.name} {Path(self.argument).expanduser().absolute()}"

    def info(self) -> Info:
        """Returns the features that the columns give, the classes, and what `auto` chose."""
        table = self.table
        features = {name: "image" if name == "image" else "text" for name in table.columns}
        if table.labels:
            features[table.labels.feature] = table.labels.kind
        return Info(
            features=features,
            classes=table.labels.classes if table.labels else (),
            size=len(table.line),
            origin=self.origin(),
            notes=(*table.notes, *([_tiff.NOTE] if self._has_tiff else [])),
        )

    def index(self) -> Index:
        """Returns one row an example, named by file and line: `train.tsv:17`."""
        table = self.table
        names, splits = [path.name for path, _ in table.files], [split for _, split in table.files]
        files = table.file.tolist()
        labels = table.labels
        return Index(
            names=[f"{names[file]}:{line}" for file, line in zip(files, table.line.tolist(), strict=True)],
            labels=labels.values[table.code] if labels and labels.kind == "class" else None,
            splits=[splits[file] for file in files],
            held=labels.values[table.code] > 0 if labels and labels.feature == "labels" else None,
            truth=[row.tobytes() for row in labels.values[table.code]] if labels and labels.kind == "number" else None,
        )

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each row's texts and of its picture's content, never of its label."""
        table = self.table
        rows = table.digests.tobytes()
        digests = [rows[k : k + DIGEST] for k in range(0, len(rows), DIGEST)]
        if "image" in table.inputs and not table.pictures:
            pictures = picture_digests([table.inputs["image"][k] for k in range(len(digests))])
            others = len(table.inputs) > 1
            digests = [content_hash(own, seen) if others else seen for own, seen in zip(digests, pictures, strict=True)]
        return digests

    def example(self, k: Any) -> dict[str, Any]:
        """Returns row k: `text`, `text_pair` and `image` (encoded bytes) as scalar strings where there are such columns.

        `label` is a scalar int64 index of a class, `labels` `[classes]` float32 of 0 and 1, `target` `[n]` float32.
        """
        import tensorflow as tf

        table = self.table
        example = {name: texts.read(k) for name, texts in table.inputs.items()}
        if "image" in example and not table.pictures:
            example["image"] = (_tiff.read_picture if self._has_tiff else tf.io.read_file)(example["image"])
        return {**example, **self.labels_of(k)}

    def labels_of(self, k: Any) -> dict[str, Any]:
        """Returns `label`, `labels` or `target` of row k, whichever there is."""
        import tensorflow as tf

        if not self.table.labels:
            return {}
        code, values = self._tensors
        return {self.table.labels.feature: tf.gather(values, tf.gather(code, k))}

    @functools.cached_property
    def table(self) -> Table:
        """All rows; the files are read at first use."""
        return read_table(self.find(), self.columns(), self.open)

    @functools.cached_property
    def _has_tiff(self) -> bool:
        """Whether a picture is a TIFF file.

        Raises:
            UserError: such files cannot be read.
        """
        table = self.table
        if "image" not in table.inputs or table.pictures:
            return False
        paths = (table.inputs["image"][k] for k in range(len(table.line)))
        first = next(filter(_tiff.is_tiff_name, paths), None)
        if first is not None:
            _tiff.check_readable(first, where=f"--data={self.name}:{self.argument}")
        return first is not None

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        assert self.table.labels is not None
        with tf.init_scope(), tf.device("CPU:0"):  # one constant for all graphs that are traced
            return tf.constant(self.table.code), tf.constant(self.table.labels.values)

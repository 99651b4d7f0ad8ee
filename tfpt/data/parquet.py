"""`--data=parquet:PATH`: a table in Parquet, with columns as in csv; pictures may be inside."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfpt.data._table import TableFile
from tfpt.data._table_source import TableSource
from tfpt.errors import UserError

_ROWS = 1024
"""Rows that are read at a time."""


class Parquet(TableSource):
    """A .parquet file, or a folder with train, validation and test files: texts, pairs or pictures, and labels."""

    name = "parquet"
    endings = ("parquet", "pq")

    def open(self, path: Path) -> TableFile:
        """Opens one file; only the columns that are used are read."""
        return _ParquetFile(path)


class _ParquetFile:
    """One opened file."""

    guessed = False

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UserError("--data=parquet needs pyarrow; install it with pip install 'tfpt[parquet]'.") from error
        self.path = path
        self._errors = (OSError, pyarrow.ArrowException)
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
            schema = self._file.schema_arrow
            self.columns: Sequence[str] = schema.names
            batch = next(self._file.iter_batches(batch_size=1), None)
        except self._errors as error:
            raise self._unreadable(error) from error
        if batch is None:
            raise UserError(f"{path} holds no rows.")
        self.first: Sequence[Any] = [column[0].as_py() for column in batch.columns]
        self._names = _class_names(schema.metadata or {})

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and wanted cells of each row."""
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS, columns=list(dict.fromkeys(wanted))):
                cells = {name: self._cells(name, batch.column(name).to_pylist()) for name in batch.schema.names}
                for number, row in enumerate(zip(*(cells[name] for name in wanted), strict=True), number + 1):  # noqa: B020
                    yield number, row
        except self._errors as error:
            raise self._unreadable(error) from error

    def _cells(self, column: str, values: list[Any]) -> list[Any]:
        """Returns the cells; numbers of classes as names, where the file has these, and -1 as nothing."""
        names = self._names.get(column)
        if names is None or not all(value is None or isinstance(value, int) for value in values):
            return values
        known = dict(enumerate(names))
        return [known.get(value, value) if value != -1 else None for value in values]

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.path} cannot be read as Parquet: {str(error).rstrip('.').splitlines()[0]}.")


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Returns column -> names by number, as the datasets library of Hugging Face keeps them in a file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {column: value["names"] for column, value in features.items() if value.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}

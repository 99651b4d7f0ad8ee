"""`--data=parquet:PATH`: a table in Parquet, with columns as in csv; pictures may be inside, or lists of tokens and tags."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfpt.data._arrow_rows import ArrowRows, features_of, import_pyarrow
from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedTableSource
from tfpt.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 1024
"""Rows that are read at a time."""


class Parquet(TaggedTableSource):
    """A .parquet file, or a folder with train, validation and test files: texts, pairs or pictures, and labels."""

    name = "parquet"
    endings = ("parquet", "pq")

    def open(self, path: Path) -> TableFile:
        """Opens one file; only the columns that are used are read."""
        import_pyarrow("parquet")
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            reason = str(error).rstrip(".").splitlines()[0]
            raise UserError(f"{path} cannot be read as Parquet: {reason}.") from error

        def batches(columns: Sequence[str]) -> "Iterator[pyarrow.RecordBatch]":
            return file.iter_batches(batch_size=_ROWS, columns=list(columns))

        schema = file.schema_arrow
        return ArrowRows(str(path), schema.names, batches, features_of(schema.metadata))

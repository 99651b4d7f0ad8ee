"""Rows of Arrow record batches, with the names of classes as the datasets library of Hugging Face keeps them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError

if TYPE_CHECKING:
    import pyarrow

Batches = Callable[[Sequence[str]], Iterator["pyarrow.RecordBatch"]]
"""Columns -> record batches that have them, from the first row on."""


class ArrowRows:
    """One opened file, as `_table.TableFile`.

    Args:
        where: what is read, for messages.
        columns: their names.
        batches: reads them.
        features: what the datasets library says the columns are; empty where nobody does.
    """

    guessed = False

    def __init__(self, where: str, columns: Sequence[str], batches: Batches, features: Mapping[str, Any]) -> None:
        self.columns = columns
        self._where, self._batches = where, batches
        self._names = {name: names for name, feature in features.items() if (names := _class_names(feature))}
        first = next((batch for batch in self._read(columns) if batch.num_rows), None)
        if first is None:
            raise UserError(f"{where} holds no rows.")
        self.first: Sequence[Any] = [column[0].as_py() for column in first.columns]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and wanted cells of each row."""
        number = 0
        for batch in self._read(list(dict.fromkeys(wanted))):
            cells = {name: self._cells(name, batch.column(name).to_pylist()) for name in batch.schema.names}
            for number, row in enumerate(zip(*(cells[name] for name in wanted), strict=True), number + 1):  # noqa: B020
                yield number, row

    def _read(self, columns: Sequence[str]) -> Iterator["pyarrow.RecordBatch"]:
        import pyarrow

        try:
            yield from self._batches(columns)
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{self._where} cannot be read: {str(error).rstrip('.').splitlines()[0]}.") from error

    def _cells(self, column: str, values: list[Any]) -> list[Any]:
        """Returns the cells; numbers of classes as names, where there are any, and -1 as nothing."""
        if column not in self._names:
            return [_path(value) if isinstance(value, dict) else value for value in values]
        known = {-1: None, **dict(enumerate(self._names[column]))}
        return [_named(value, known) for value in values]


def features_of(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """Returns what the datasets library wrote into a schema about the columns; nothing where it did not."""
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _class_names(feature: Any) -> list[str] | None:
    """Returns the names of a class, or of those in a list, by number."""
    if isinstance(feature, list) and len(feature) == 1:  # as older versions wrote a list
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature.get("names")
    return _class_names(feature.get("feature"))


def _named(value: Any, known: Mapping[int, str | None]) -> Any:
    if isinstance(value, list):
        return [_named(part, known) for part in value]
    return known.get(value, value) if isinstance(value, int) else value


def _path(value: dict[str, Any]) -> Any:
    """Returns the path of a picture that is not inside; anything else as it is."""
    return value["path"] if value.get("bytes") is None and isinstance(value.get("path"), str) else value


def import_pyarrow(source: str) -> None:
    """Imports pyarrow.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError(f"--data={source} needs pyarrow; install it with pip install 'tfpt[parquet]'.") from error

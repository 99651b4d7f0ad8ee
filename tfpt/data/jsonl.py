"""`--data=jsonl:PATH`: one JSON object a line, with keys for the text or the picture and for the label, or tokens and tags."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedTableSource
from tfpt.data._utf8 import json_value, lines
from tfpt.errors import UserError


class Jsonl(TaggedTableSource):
    """A .jsonl or .ndjson file, a .json file with a list, or a folder with train, dev and test files."""

    name = "jsonl"
    endings = ("jsonl", "ndjson", "json")

    def open(self, path: Path) -> TableFile:
        """Opens one file; the keys of its first object are the columns."""
        first = next(_objects(path), None)
        if first is None:
            raise UserError(f"{path} is empty.")
        return _JsonlFile(path, first[1])


class _JsonlFile:
    """One opened file."""

    guessed = False

    def __init__(self, path: Path, first: dict[str, Any]) -> None:
        self.path = path
        self.columns: Sequence[str] = list(first)
        self.first: Sequence[Any] = list(first.values())

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        """Yields line number and wanted cells of each object."""
        for line, value in _objects(self.path):
            try:
                yield line, [value[key] for key in wanted]
            except KeyError as error:
                raise UserError(
                    f"{self.path}:{line} has no key {error}; write null where there is no value."
                ) from error


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line number, or place in the list from 1, and object; empty lines are none."""
    if path.suffix.lower() == ".json" and next(filter(None, map(str.strip, lines(path))), "").startswith("["):
        values: Iterator[tuple[int, Any]] = iter(enumerate(json_value(path), 1))
    else:
        values = _by_line(path)
    for place, value in values:
        if not isinstance(value, dict):
            raise UserError(f'{path}:{place} is not a JSON object, such as {{"text": "...", "label": "..."}}.')
        yield place, value


def _by_line(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(path), 1):
        if line.strip():
            try:
                yield number, json.loads(line.rstrip())
            except (ValueError, RecursionError) as error:
                why = f"{error.msg} in column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
                raise UserError(f"{path}:{number} is not JSON: {why}; one object a line is expected.") from error

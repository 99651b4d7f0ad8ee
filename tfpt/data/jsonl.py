"""`--data=jsonl:PATH`: one JSON object a line, with keys for the text or the picture and for the label, or tokens and tags."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data import Index, Info
from tfpt.data._columns import ColumnsConfig
from tfpt.data._files import find_files
from tfpt.data._labels import cell
from tfpt.data._table import TableFile
from tfpt.data._table_source import TableSource
from tfpt.data._tagged import Tagged, TaggedBuilder
from tfpt.data._utf8 import json_value, lines
from tfpt.errors import UserError


class Jsonl(TableSource):
    """A .jsonl or .ndjson file, a .json file with a list, or a folder with train, dev and test files."""

    name = "jsonl"
    endings = ("jsonl", "ndjson", "json")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ColumnsConfig):
        """Flags of the group `data`."""

        tokens: str = setting("", "Key of the list of tokens, for token classification; needs --data.tags.")
        tags: str = setting("", "Key of the list of tags, one a token.")

        def __post_init__(self) -> None:
            super().__post_init__()
            check(bool(self.tokens) or not self.tags, f"tags: {self.tags} needs --data.tokens=KEY too")
            check(bool(self.tags) or not self.tokens, f"tokens: {self.tokens} needs --data.tags=KEY too")

    def open(self, path: Path) -> TableFile:
        """Opens one file; the keys of its first object are the columns."""
        first = next(_objects(path), None)
        if first is None:
            raise UserError(f"{path} is empty.")
        return _JsonlFile(path, first[1])

    def info(self) -> Info:
        """Returns the features that the keys give, the classes or tags, and what `auto` chose."""
        if self._tagged:
            return self._tagged.info(f"{self.name} {Path(self.argument).expanduser().absolute()}")
        return super().info()

    def index(self) -> Index:
        """Returns one row an example, named by file and line: `train.jsonl:17`; in a list, by its place from 1."""
        return self._tagged.index() if self._tagged else super().index()

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each example's texts, tokens or picture, never of its label or tags."""
        return self._tagged.content if self._tagged else super().digests()

    def example(self, k: Any) -> dict[str, Any]:
        """Returns example k as `csv` does; with --data.tokens, `text` and `tags` as `conll` does."""
        return self._tagged.example(k) if self._tagged else super().example(k)

    @functools.cached_property
    def _tagged(self) -> Tagged | None:
        if not self.config.tokens:
            return None
        found = find_files(self.argument, source=self.name, endings=self.endings)
        builder = TaggedBuilder()
        for number, (path, _) in enumerate(found.files):
            before = len(builder)
            for line, value in _objects(path):
                tokens, tags = (self._list(value, key, f"{path}:{line}") for key in ("tokens", "tags"))
                if len(tokens) != len(tags):
                    raise UserError(f"{path}:{line} has {len(tokens)} tokens and {len(tags)} tags.")
                if not all(tokens):
                    raise UserError(f"{path}:{line} has an empty token; remove it with its tag.")
                if tokens:
                    builder.add(tokens, tags, file=number, line=line)
            if len(builder) == before:
                raise UserError(f"{path} holds no sentences.")
        return builder.build(found.files, found.notes)

    def _list(self, value: dict[str, Any], role: str, where: str) -> list[str]:
        key = getattr(self.config, role)
        if key not in value:
            raise UserError(f"{where}: --data.{role}={key} is not a key; keys are {', '.join(value)}.")
        if not isinstance(value[key], list) or not all(isinstance(part, str | int) for part in value[key]):
            raise UserError(f"{where}: --data.{role}={key} is not a list of texts.")
        return [str(cell(part)) if role == "tags" else str(part) for part in value[key]]


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

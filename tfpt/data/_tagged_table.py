"""Tables that may have a column with lists of tokens and one with lists of their tags."""

import ast
import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data import Index, Info
from tfpt.data._labels import cell
from tfpt.data._question_table import QuestionColumnsConfig, QuestionTableSource
from tfpt.data._tagged import Tagged, TaggedBuilder
from tfpt.errors import UserError

_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)"""
_PRINTED = re.compile(rf"\s*\[\s*{_ITEM}(?:\s+{_ITEM})*\s*\]\s*")
"""A list as NumPy and pandas print it, without commas; to Python its texts are one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedColumnsConfig(QuestionColumnsConfig):
    """Flags of the group `data`."""

    tokens: str = setting(
        "",
        "Column, or key, of the tokens, for token classification: a list, or in a cell of text words with spaces between them, or a list "
        "as JSON, Python or NumPy writes it; needs --data.tags.",
    )
    tags: str = setting("", "Column, or key, of the tags, one a token, written as the tokens are.")
    tag_names: tuple[str, ...] = setting(
        (), "Names of the tags by number, from 0, where tags are numbers: O,B-PER,I-PER."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.tag_names, str):
            object.__setattr__(self, "tag_names", tuple(part.strip() for part in self.tag_names.split(",")))
        names = self.tag_names
        check(
            len(set(names)) == len(names) and all(names),
            f"tag_names: {','.join(names)} has a name twice, or an empty one",
        )
        check(bool(self.tags) or not names, f"tag_names: {','.join(names)} needs --data.tokens and --data.tags")
        check(bool(self.tokens) or not self.tags, f"tags: {self.tags} needs --data.tokens=COLUMN too")
        check(bool(self.tags) or not self.tokens, f"tokens: {self.tokens} needs --data.tags=COLUMN too")

    def named(self) -> list[str]:
        """Returns the columns that were given by name, not by number."""
        return super().named() + [name for name in (self.tokens, self.tags) if name and not name.isdecimal()]


class TaggedTableSource(QuestionTableSource):
    """A table of texts, pairs or pictures with labels; with --data.tokens, one of sentences with tags."""

    Config = TaggedColumnsConfig

    def info(self) -> Info:
        """Returns the features that the columns give, the classes or tags, and what `auto` chose."""
        return self._tagged.info(self.origin()) if self._tagged else super().info()

    def index(self) -> Index:
        """Returns one row an example, named by file and line: `train.jsonl:17`."""
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
        found = self.find()
        builder = TaggedBuilder()
        for number, (path, _) in enumerate(found.files):
            before, file = len(builder), self.open_texts(path)
            wanted = [
                column_called(file.columns, role, getattr(self.config, role), path) for role in ("tokens", "tags")
            ]
            for line, cells in file.rows(wanted):
                where = f"{path}:{line}: --data"
                tokens = [str(part) for part in _list(cells[0], f"{where}.tokens={wanted[0]}")]
                tags = [str(cell(part)) for part in _list(cells[1], f"{where}.tags={wanted[1]}")]
                if len(tokens) != len(tags):
                    raise UserError(f"{path}:{line} has {len(tokens)} tokens and {len(tags)} tags.")
                if not all(tokens):
                    raise UserError(f"{path}:{line} has an empty token; remove it with its tag.")
                if tokens:
                    builder.add(tokens, self._by_name(tags, f"{path}:{line}"), file=number, line=line)
            if len(builder) == before:
                raise UserError(f"{path} holds no sentences.")
        tagged = builder.build(found.files, found.notes)
        if not all(map(str.isdecimal, tagged.classes)):
            return tagged
        note = (
            f"The tags are numbers ({', '.join(tagged.classes[:5])}), so no word is known to be outside of the entities and each is one by "
            "itself; --data.tag_names=O,B-PER,I-PER says what 0, 1, 2 stand for."
        )
        return dataclasses.replace(tagged, notes=(*tagged.notes, note))

    def _by_name(self, tags: Sequence[str], where: str) -> Sequence[str]:
        names = self.config.tag_names
        if not names:
            return tags
        wrong = next((tag for tag in tags if not tag.isdecimal() or int(tag) >= len(names)), None)
        if wrong is not None:
            raise UserError(
                f"{where} has the tag {wrong}, and --data.tag_names names {len(names)}, by their numbers from 0."
            )
        return [names[int(tag)] for tag in tags]


def column_called(columns: Sequence[str], role: str, name: str, path: Path) -> str:
    """Returns a column by its name, or by its number from 1."""
    if name not in columns and name.isdecimal() and 1 <= int(name) <= len(columns):
        return columns[int(name) - 1]
    if name not in columns:
        raise UserError(f"{path}: --data.{role}={name} is not a column; columns are {', '.join(columns)}.")
    return name


def _list(value: Any, where: str) -> list[str | int]:
    """Returns a cell as a list of tokens or tags.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, str):
        value = _listed(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list) or not all(isinstance(part, str | int) for part in value):
        raise UserError(f"{where} is not a list of texts.")
    return value


def _listed(text: str) -> Any:
    """Returns the list that a text is, as NumPy, JSON or Python writes it; its words where it is none: a token may be a bracket."""
    for read in (_printed, json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text)
    return text.split()


def _printed(text: str) -> list[Any]:
    if not _PRINTED.fullmatch(text):
        raise ValueError("has commas, or is no list")
    return [ast.literal_eval(item) for item in re.findall(_ITEM, text)]

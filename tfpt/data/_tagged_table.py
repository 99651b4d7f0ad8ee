"""Tables that may have a column with lists of tokens and one with lists of their tags."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from tfpt.config import check, setting
from tfpt.data import Index, Info
from tfpt.data._labels import cell
from tfpt.data._question_table import QuestionColumnsConfig, QuestionTableSource
from tfpt.data._tagged import Tagged, TaggedBuilder
from tfpt.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedColumnsConfig(QuestionColumnsConfig):
    """Flags of the group `data`."""

    tokens: str = setting("", "Column, or key, of the list of tokens, for token classification; needs --data.tags.")
    tags: str = setting("", "Column, or key, of the list of tags, one a token.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.tokens) or not self.tags, f"tags: {self.tags} needs --data.tokens=COLUMN too")
        check(bool(self.tags) or not self.tokens, f"tokens: {self.tokens} needs --data.tags=COLUMN too")


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
            before, file = len(builder), self.open(path)
            wanted = [self.config.tokens, self.config.tags]
            for role, name in zip(("tokens", "tags"), wanted, strict=True):
                if name not in file.columns:
                    raise UserError(
                        f"{path}: --data.{role}={name} is not a column; columns are {', '.join(file.columns)}."
                    )
            for line, cells in file.rows(wanted):
                where = f"{path}:{line}: --data"
                tokens = [str(part) for part in _list(cells[0], f"{where}.tokens={wanted[0]}")]
                tags = [str(cell(part)) for part in _list(cells[1], f"{where}.tags={wanted[1]}")]
                if len(tokens) != len(tags):
                    raise UserError(f"{path}:{line} has {len(tokens)} tokens and {len(tags)} tags.")
                if not all(tokens):
                    raise UserError(f"{path}:{line} has an empty token; remove it with its tag.")
                if tokens:
                    builder.add(tokens, tags, file=number, line=line)
            if len(builder) == before:
                raise UserError(f"{path} holds no sentences.")
        return builder.build(found.files, found.notes)


def _list(value: Any, where: str) -> list[str | int]:
    if not isinstance(value, list) or not all(isinstance(part, str | int) for part in value):
        raise UserError(f"{where} is not a list of texts.")
    return value

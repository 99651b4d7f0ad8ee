"""`--data=conll:PATH`: columns of CoNLL-2003: a token a line, its tag in the last column, an empty line between sentences."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data import DataSource, Index, Info
from tfpt.data._files import find_files
from tfpt.data._tagged import Tagged, TaggedBuilder
from tfpt.data._utf8 import lines
from tfpt.errors import UserError

_DOCUMENT = "-DOCSTART-"


class Conll(DataSource):
    """A file in the columns of CoNLL-2003, or a folder with train, dev (or testa) and test (or testb) files."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(DataSource.Config):
        """Flags of the group `data`."""

        column: str = setting("last", "Column of the tag: last, or its number from 1.")
        token_column: int = setting(1, "Column of the token, from 1.")

        def __post_init__(self) -> None:
            known = self.column == "last" or (self.column.isdecimal() and int(self.column) > 0)
            check(known, f"column: {self.column} is not last or a number from 1")
            check(self.token_column > 0, f"token_column: {self.token_column} is not a number from 1")
            check(self.column != str(self.token_column), f"column: {self.column} is the column of the token")

    def info(self) -> Info:
        """Returns the tags (`O` first) and the number of sentences."""
        return self._tagged.info(f"conll {Path(self.argument).expanduser().absolute()}")

    def index(self) -> Index:
        """Returns one row a sentence, named by file and line: `train.txt:17`."""
        return self._tagged.index()

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each sentence's tokens."""
        return self._tagged.content

    def example(self, k: Any) -> dict[str, Any]:
        """Returns sentence k: `text`, its tokens with one space between them, and `tags`, `[tokens]` int64."""
        return self._tagged.example(k)

    @functools.cached_property
    def _tagged(self) -> Tagged:
        endings = ("txt", "conll", "iob", "iob2", "bio", "tsv", "train", "dev", "test", "testa", "testb")
        found = find_files(self.argument, source="conll", endings=endings)
        builder = TaggedBuilder()
        for number, (path, _) in enumerate(found.files):
            before = len(builder)
            self._read(path, number, builder)
            if len(builder) == before:
                raise UserError(f"{path} holds no sentences.")
        return builder.build(found.files, found.notes)

    def _read(self, path: Path, file: int, builder: TaggedBuilder) -> None:
        tokens: list[str] = []
        tags: list[str] = []
        start, width, separator = 0, 0, " "
        for number, line in enumerate(lines(path), 1):
            text = line.strip(" \t\r\n")
            if not text or text.startswith(_DOCUMENT):
                if tokens:
                    builder.add(tokens, tags, file=file, line=start)
                tokens, tags = [], []
                continue
            if not width:
                separator = "\t" if "\t" in text else " "
            # Only these two separate: a token may hold a no-break space, which str.split would split at.
            cells = [cell for cell in text.split(separator) if cell.strip(" ")]
            width = width or self._width(path, number, len(cells))
            if len(cells) != width:
                raise UserError(f"{path}:{number} has {len(cells)} columns where the first line has {width}.")
            if not tokens:
                start = number
            tokens.append(cells[self.config.token_column - 1])
            tags.append(cells[-1 if self.config.column == "last" else int(self.config.column) - 1])
        if tokens:
            builder.add(tokens, tags, file=file, line=start)

    def _width(self, path: Path, line: int, width: int) -> int:
        wanted = self.config.token_column if self.config.column == "last" else int(self.config.column)
        if width < max(2, wanted, self.config.token_column):
            raise UserError(
                f"{path}:{line} has {width} column{'s' * (width > 1)}, where a token and its tag are expected "
                f"(--data.token_column={self.config.token_column}, --data.column={self.config.column})."
            )
        return width

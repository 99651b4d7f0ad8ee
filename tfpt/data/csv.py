"""`--data=csv:PATH`: a table with a column of texts or of paths of pictures, and one of labels; or of tokens and tags."""

import csv
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data._columns import has_known_name
from tfpt.data._files import Files, find_files
from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedColumnsConfig, TaggedTableSource
from tfpt.data._utf8 import lines
from tfpt.errors import UserError

_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "\\t": "\t"}
_SAMPLE = 50
"""Records by which the delimiter is chosen."""


class Csv(TaggedTableSource):
    """A .csv or .tsv file, or a folder with train, dev and test files: texts, pairs or paths of pictures, and labels."""

    name = "csv"
    endings = ("csv", "tsv", "tab", "txt")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TaggedColumnsConfig):
        """Flags of the group `data`."""

        header: str = setting(
            "auto",
            "Whether the first line has the names of the columns. auto: when a name is one that is known, or was given.",
            choices=("auto", "yes", "no"),
        )
        delimiter: str = setting(
            "auto",
            "What separates columns: tab, comma, semicolon or one character. auto: tab in .tsv files, else by looking at the first lines.",
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            words = self.delimiter in ("auto", *_DELIMITERS)
            check(
                words or (len(self.delimiter) == 1 and self.delimiter not in '"\r\n'),
                f"delimiter: {self.delimiter} is not auto, tab, comma, semicolon or one character",
            )
            named = self.named()
            check(
                self.header != "no" or not named,
                f"header: no leaves columns without names, so write the number of the column instead of {', '.join(named)}",
            )

    def find(self) -> Files:
        """Finds the files; a .txt file beside others is taken for a note about them."""
        return find_files(self.argument, source=self.name, endings=self.endings, spare="txt")

    def open(self, path: Path) -> TableFile:
        """Opens one file: finds its delimiter, its quotes and its header."""
        delimiter = _DELIMITERS.get(self.config.delimiter, self.config.delimiter)
        if delimiter == "auto":
            delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _sniff(path)
        records = _Records(path, delimiter, quoted=delimiter != "\t" or _is_quoted(path))
        sample = [cells for _, cells in itertools.islice(records, _SAMPLE)]
        if not sample:
            raise UserError(f"{path} is empty.")
        first, *following = sample
        named = {name.lower() for name in self.config.named()}
        headed = self.config.header == "yes" or (
            self.config.header == "auto" and (bool(named) or has_known_name(first, following))
        )
        return _CsvFile(records, first, headed=headed, guessed=not headed and self.config.header == "auto")


class _CsvFile:
    """One opened file."""

    def __init__(self, records: "_Records", first: list[str], *, headed: bool, guessed: bool) -> None:
        self.records = records
        self.first: Sequence[Any] = first
        self.headed = headed
        self.guessed = guessed
        self.columns: Sequence[str] = first if headed else [str(number) for number in range(1, len(first) + 1)]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yields line number and wanted cells of each row; a header that comes again, of files that were put together, is none."""
        width, places = len(self.columns), [self.columns.index(name) for name in wanted]
        records = iter(self.records)
        if self.headed:
            next(records)
        for line, cells in records:
            if self.headed and cells == self.first and width > 1:
                continue
            if len(cells) != width:
                raise self.records.ragged(line, len(cells), width)
            yield line, [cells[place] for place in places]


@dataclasses.dataclass(frozen=True)
class _Records:
    """The records of a file, each with the line that it begins in; empty lines are none."""

    path: Path
    delimiter: str
    quoted: bool = dataclasses.field(kw_only=True)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        if not self.quoted:
            for number, line in enumerate(lines(self.path), 1):
                if text := line.rstrip("\r\n"):
                    yield number, text.split(self.delimiter)
            return
        before = csv.field_size_limit(sys.maxsize)  # the limit is the process's, so it is put back
        start = 1
        try:
            reader = csv.reader(lines(self.path), delimiter=self.delimiter, strict=True)
            for cells in reader:
                if cells:
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{self.path}:{start}: {error}; a cell that begins with a quote must end with one, and a quote inside is "
                "written twice."
            ) from error
        finally:
            csv.field_size_limit(before)

    def ragged(self, line: int, found: int, width: int) -> UserError:
        """Returns the error for a row that has too many cells, or too few."""
        names = {delimiter: name for name, delimiter in _DELIMITERS.items() if name.isalpha()}
        name = names.get(self.delimiter, self.delimiter)
        rule = (
            "" if self.quoted else " (quotes are text here, because not every cell that begins with one ends with one)"
        )
        return UserError(
            f"{self.path}:{line} has {found} column{'s' * (found != 1)} where the first line has {width}, separated by {name}"
            f"{rule}; put quotes around a cell that holds the separator, or choose another with --data.delimiter."
        )


def _is_quoted(path: Path) -> bool:
    """Whether quotes in a tab-separated file are those of CSV.

    Such files often hold texts with a lone quote (those of GLUE do), which would swallow the lines up to the next one. So quotes count only
    when each cell that begins with one ends with one, with doubled quotes inside, in every line by itself.
    """
    seen = False
    for line in lines(path):
        if '"' not in line:
            continue
        for cell in line.rstrip("\r\n").split("\t"):
            if cell.startswith('"'):
                inside = cell[1:-1].replace('""', "")
                if len(cell) < 2 or not cell.endswith('"') or '"' in inside:
                    return False
                seen = True
    return seen


def _sniff(path: Path) -> str:
    """Returns the delimiter that gives the most of the first records as many columns as the first has, at least two."""
    best, share = ",", 0.0
    for delimiter in ("\t", ";", ","):  # what is rare inside texts comes first
        records = _Records(path, delimiter, quoted=delimiter != "\t")
        try:
            widths = [len(cells) for _, cells in itertools.islice(records, _SAMPLE)]
        except UserError:  # quotes that end within a cell: another delimiter; what is wrong in any case is found again
            continue
        alike = widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0
        if alike > share:
            best, share = delimiter, alike
    return best

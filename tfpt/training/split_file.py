"""splits.csv: which example was in which split, written down and taken back with `--input.splits=FILE`."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfpt.atomic import atomic_text
from tfpt.data import Index
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.training.splits import Splits

_SPLITS = ("train", "validation", "test")
_LEFT_OUT = {"left_out": "train", "left_out_validation": "validation", "left_out_test": "test"}
"""What the file says of an example that was not used, and the split that it belongs to."""
_WORDS = (*_SPLITS, *_LEFT_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitFile:
    """The content of a splits.csv.

    Attributes:
        by_name: example name -> split (`train`, `validation` or `test`).
        by_digest: content hash -> split of the first example that has it.
        digests: example name -> content hash, where the file says it.
    """

    by_name: Mapping[str, str]
    by_digest: Mapping[bytes, str]
    digests: Mapping[str, bytes]


def write_csv(
    path: str | Path, index: Index, digests: Sequence[bytes], splits: "Splits", classes: Sequence[str] = ()
) -> None:
    """Writes one row an example: name, class, split, digest (hexadecimal).

    Args:
        path: the file; it appears whole or not at all.
        index: the table of examples.
        digests: their content hashes.
        splits: where each is.
        classes: class names in index order, where there are classes.

    Raises:
        UserError: the file cannot be written.
    """
    where = [""] * len(index.names)
    parts = (splits.train, splits.validation, splits.test, *splits.left_out)
    for word, examples in zip(_WORDS, parts, strict=True):
        for k in examples:
            where[k] = word
    labels = [""] * len(where) if index.labels is None else [classes[c] if classes else str(c) for c in index.labels]
    with atomic_text(path, errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "class", "split", "digest"))
        writer.writerows(zip(index.names, labels, where, (d.hex() for d in digests), strict=True))


def read_csv(path: str) -> SplitFile:
    """Reads a splits.csv; the columns name and split are enough, digest finds examples that were renamed.

    Args:
        path: the value of `--input.splits`.

    Raises:
        UserError: there is no such file, or a row makes no sense.
    """
    flag = f"--input.splits={path}"
    by_name: dict[str, str] = {}
    by_digest: dict[bytes, str] = {}
    digests: dict[str, bytes] = {}
    try:
        # A spreadsheet program may have put a byte order mark in front.
        with open(Path(path).expanduser(), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            if not {"name", "split"} <= set(rows.fieldnames or ()):
                raise UserError(
                    f"{flag}: the first line must be name,class,split,digest, separated by commas (class and digest may "
                    "be left out), as in the splits.csv of a run folder."
                )
            for row in rows:
                name, word = row["name"], row["split"]
                if word not in _WORDS:
                    raise UserError(f"{flag}: line {rows.line_num}: split is {word!r}, not one of {', '.join(_WORDS)}.")
                if name in by_name:
                    raise UserError(f"{flag}: line {rows.line_num}: {name} is there twice; keep one of its lines.")
                by_name[name] = _LEFT_OUT.get(word, word)
                try:
                    digest = bytes.fromhex(row.get("digest") or "")
                except ValueError as error:
                    raise UserError(f"{flag}: line {rows.line_num}: the digest is not hexadecimal.") from error
                if digest:
                    digests[name] = digest
                    by_digest.setdefault(digest, by_name[name])
    except OSError as error:
        raise UserError(f"{flag} cannot be read: {error.strerror or error}.") from error
    except csv.Error as error:
        raise UserError(f"{flag} is not a CSV file: {error}.") from error
    return SplitFile(by_name=by_name, by_digest=by_digest, digests=digests)

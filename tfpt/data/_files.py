"""The files of a data source that takes a file, or a folder with train, validation and test files."""

import dataclasses
import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from tfpt.errors import UserError

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "val", "valid", "validation", "testa"), "validation"),
    **dict.fromkeys(("test", "testing", "testb"), "test"),
}
"""Words in a file's name; testa and testb are those of CoNLL-2003."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What a path leads to.

    Attributes:
        files: path and split (`""` where its name gives none) of each file, train first, then by name.
        notes: sentences for the user.
    """

    files: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()


def find_files(argument: str, *, source: str, endings: Collection[str], spare: str = "") -> Files:
    """Finds the file, or the files of a folder; a folder's own folders are not looked into.

    Where a file's name has the word train, dev, val, valid, validation or test (`train.csv`, `dev_matched.tsv`,
    `test-00000-of-00002.parquet`), files beside it without one are left out. Where none has, all are read.

    Args:
        argument: the path.
        source: name of the data source, for messages.
        endings: what the names in a folder end with, without the dot, in lower case.
        spare: one of them, that counts only where no file has another, or where its files say their splits and one is train's.

    Raises:
        UserError: there is nothing to read.
    """
    where = f"--data={source}:{argument}"
    if not argument:
        raise UserError(f"--data={source} needs a path; write --data={source}:PATH, a file or a folder.")
    path = Path(argument).expanduser().absolute()
    try:
        if path.is_file():
            return Files(files=((path, ""),))
        if not path.is_dir():
            raise_missing(where, path)
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error
    readable = [file for file in found if _ending(file) in endings]
    splits = {file: split_of(file.name) for file in readable}
    whole = "train" in splits.values()  # else test.txt beside data.csv may say anything
    readable = [file for file in readable if _ending(file) != spare or (whole and splits[file])] or readable
    if any(splits[file] for file in readable):
        ignored = [file.name for file in readable if not splits[file]]
        readable = [file for file in readable if splits[file]]
    else:
        ignored = []
    if not readable:
        names = ", ".join(file.name for file in found[:5]) or "nothing"
        allowed = ", ".join(f".{ending}" for ending in endings)
        raise UserError(f"{where} has no file that ends with {allowed}; found: {names}.")
    order = ("train", "", "validation", "test")
    files = sorted(((file, splits[file]) for file in readable), key=lambda pair: (order.index(pair[1]), pair[0]))
    notes = (f"Ignored, because their names say no split: {', '.join(ignored[:5])}.",) if ignored else ()
    return Files(files=tuple(files), notes=notes)


def _ending(file: Path) -> str:
    return file.name.lower().rpartition(".")[2]


def split_of(name: str) -> str:
    """Returns the split that a name tells (`dev_matched` is validation); `""` where there is none or its words disagree."""
    said = {_SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLITS}
    return said.pop() if len(said) == 1 else ""


def raise_missing(where: str, path: Path) -> NoReturn:
    """Says what is wrong with a path that is neither a file nor a folder.

    Raises:
        UserError: always.
    """
    if path.exists():
        raise UserError(f"{where} is neither a file nor a folder.")
    parent = next(folder for folder in path.parents if folder.is_dir())
    missing = path.relative_to(parent).parts[0]
    close = difflib.get_close_matches(missing, [file.name for file in parent.iterdir()], n=1)
    hint = f"did you mean {close[0]}?" if close else "give the path of a file or folder that exists."
    raise UserError(f"{where}: there is no {parent / missing}; {hint}")

"""Finds the picture files below a folder, whatever they are called and however they are linked.

Everything is bytes: a file name need not be valid in any encoding, and none is ever taken for a pattern.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable

from tfpt.data import _tiff
from tfpt.errors import UserError

PICTURES = frozenset(b"jpg jpeg jpe jfif png gif bmp webp".split())
"""Extensions that are read, in lower case; and those of TIFF, where its extra is installed."""
UNREADABLE_PICTURES = frozenset(b"heic heif avif jp2 jxl".split()) | _tiff.EXTENSIONS
"""Extensions of pictures that no TensorFlow op decodes."""

_LITTER = frozenset({b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r", b"__macosx", b"$recycle.bin", b"@eadir"})
_LITTER |= {b"lost+found", b"system volume information"}


@dataclasses.dataclass
class Walk:
    """What lies below a folder.

    Attributes:
        files: picture files, relative to the folder, sorted by their bytes.
        folders: all folders below it, relative, sorted.
        litter: how many files and folders of the operating system were ignored (hidden ones, Thumbs.db, ...).
        others: extension in lower case -> how many files with it were ignored.
        broken: links that lead nowhere.
        loops: links to a folder that they lie in.
    """

    files: list[bytes] = dataclasses.field(default_factory=list)
    folders: list[bytes] = dataclasses.field(default_factory=list)
    litter: int = 0
    others: Counter[bytes] = dataclasses.field(default_factory=Counter)
    broken: int = 0
    loops: int = 0


def walk(root: bytes) -> Walk:
    """Lists a folder and all below it; links are followed, but not in circles.

    Args:
        root: path of a folder.

    Raises:
        UserError: a folder cannot be listed.
    """
    found = Walk()
    _visit(root, b"", frozenset(), found)
    found.files.sort()
    found.folders.sort()
    return found


def shown(path: bytes) -> str:
    """Returns a path as the user knows it: UTF-8, or Latin-1 for those parts that are not UTF-8."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return "/".join(_part(part) for part in path.split(b"/"))


def _part(part: bytes) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part.decode("latin-1")


def _visit(root: bytes, inside: bytes, above: frozenset[tuple[int, int]], found: Walk) -> None:
    folder = os.path.join(root, inside)  # noqa: PTH118 - pathlib takes no bytes
    try:
        status = os.stat(folder)  # noqa: PTH116
        with os.scandir(folder) as entries:
            listing = list(entries)
    except OSError as error:
        raise UserError(
            f"--data=folder: {shown(folder)} cannot be listed: {error.strerror}; make it readable, or move it elsewhere."
        ) from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        found.loops += 1
        found.folders.remove(inside)
        return
    for entry in listing:
        path = os.path.join(inside, entry.name)  # noqa: PTH118
        if entry.name.startswith(b".") or entry.name.lower() in _LITTER:
            found.litter += 1
        elif _is(entry.is_dir):
            found.folders.append(path)
            _visit(root, path, above | {here}, found)
        elif not _is(entry.is_file):  # a link that leads nowhere or to itself, a socket, a device
            found.broken += 1
        else:
            stem, dot, extension = entry.name.rpartition(b".")
            extension = extension.lower() if stem and dot else b""
            if extension in PICTURES or (extension in _tiff.EXTENSIONS and _tiff.is_installed()):
                found.files.append(path)
            else:
                found.others[extension] += 1


def _is(question: Callable[[], bool]) -> bool:
    """Asks a directory entry; a link that cannot be followed is nothing."""
    try:
        return question()
    except OSError:
        return False

"""Reads text files as UTF-8, and says where one is not."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfpt.errors import UserError

_MARK = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a file, each with its end (`\n` or `\r\n`); a byte order mark is left out.

    Raises:
        UserError: the file cannot be read, or is not UTF-8; the sentence names the line and the byte.
    """
    with _errors(path), open(path, "rb") as file:
        start = 0
        for number, line in enumerate(file, 1):
            mark = len(_MARK) if number == 1 and line.startswith(_MARK) else 0
            yield _decode(line[mark:], path, line=number, start=start + mark)
            start += len(line)


def whole(path: Path) -> str:
    """Returns the text of a file, without a byte order mark.

    Raises:
        UserError: as `lines`.
    """
    with _errors(path):
        raw = path.read_bytes()
        mark = len(_MARK) if raw.startswith(_MARK) else 0
        return _decode(raw[mark:], path, line=1, start=mark)


def json_value(path: Path) -> Any:
    """Returns the value that a JSON file holds.

    Raises:
        UserError: as `lines`, or the file is not JSON.
    """
    text = whole(path)
    if not text.strip():
        raise UserError(f"{path} is empty.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{path}{place} is not JSON: {why}.") from error


def _decode(raw: bytes, path: Path, *, line: int, start: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        hint = "it looks like UTF-16; " if start == 0 and raw.startswith(_UTF16) else ""
        raise UserError(
            f"{path}:{line}: byte {start + error.start} of the file (0x{raw[error.start]:02x}) is not UTF-8; {hint}save the "
            "file as UTF-8."
        ) from error


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error

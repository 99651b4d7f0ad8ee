r"""The text of a flag file: one `--flag=value` a line, comments on lines of their own.

UTF-8 whatever the locale is. `~` (at the start of a path) and `$VAR` or `${VAR}` are expanded; `\#` `\$` `\~` `\"` `\'` give
the character itself, and every other backslash is a backslash, so that regular expressions stand as they are. Names that
are not UTF-8 on disk (surrogates in Python) are written as three bytes each, so that they come back.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfpt.atomic import atomic_text
from tfpt.errors import UserError

_HOME = re.compile(r"(?:^|,)(?:\w+=)?(?:[\w.]+:)?~(?=/|,|$)")
"""A `~` that means the home folder: at the start of a value or of a component's argument."""
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w*)\})", re.ASCII)
_QUOTED = re.compile(r"((?:\w+=)?(?:[\w.]+:)?)([\"'])(.*)(?<!\\)\2", re.DOTALL)
_LINE_END = re.compile(r"\r\n|\n|\r")
_SPECIAL = "#$~\"'"


@dataclasses.dataclass(frozen=True)
class Given:
    """A flag as it was given.

    Attributes:
        name: without the dashes.
        value: None for a bare `--flag`.
        source: `mine.flags:7`, or `command line`.
    """

    name: str
    value: str | None
    source: str


def read(path: Path) -> dict[str, Given]:
    """Reads a flag file and what it includes; a flag of the including file beats the included one.

    Raises:
        UserError: a line is not right; the sentence says how to write it.
    """
    return _read(path, asked_by=f"--flagfile={path}", chain=())


def write(rows: Iterable[tuple[str, str]], path: Path, *, comment: str) -> None:
    """Writes flags and their values, atomically; a blank line stands between groups.

    Raises:
        UserError: the file cannot be written.
    """
    lines, last = [f"# {line}" for line in comment.splitlines()], None
    for name, value in rows:
        group = name.rpartition(".")[0]
        if group != last or not lines:
            lines.append("")
        last = group
        lines.append(f"--{name}={escape(value)}")
    with atomic_text(path, errors="surrogatepass") as file:
        file.write("\n".join(lines) + "\n")


def escape(value: str) -> str:
    """Returns how a value is written in a flag file; as it is, where that reads back the same."""
    try:
        if not re.search(r"[ \t]#", value) and _decode(value, "", "", environment={}, home=None) == value:
            return value
    except UserError:
        pass
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in value)


def expand_home(value: str) -> str:
    """Expands `~` in a value from the command line, where the shell leaves `--data=folder:~/photos` alone."""
    return _HOME.sub(lambda match: match[0][:-1] + _home(), value)


def _read(path: Path, *, asked_by: str, chain: tuple[Path, ...]) -> dict[str, Given]:
    if not path.is_file():
        raise UserError(f"{asked_by}: there is no such file.")
    if path.resolve() in chain:
        raise UserError(f"{asked_by}: the flag files include each other in a circle.")
    own: dict[str, Given] = {}
    included: dict[str, Given] = {}
    clashes: dict[str, Given] = {}
    for number, line in enumerate(_LINE_END.split(_text(path)), start=1):
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            continue
        given = _parse_line(line, f"{path}:{number}")
        if given.name == "flagfile":
            if not given.value:
                raise UserError(f"{given.source}: write --flagfile=FILE.")
            target = path.parent / given.value
            inner = _read(target, asked_by=f"{given.source}: --flagfile={given.value}", chain=(*chain, path.resolve()))
            for name, other in inner.items():
                if name in included and included[name].source != other.source:
                    clashes[name] = other
                included[name] = other
        elif given.name in own:
            raise UserError(f"{given.source}: --{given.name} stands already at {own[given.name].source}; keep one.")
        else:
            own[given.name] = given
    for name, other in clashes.items():
        if name not in own:
            raise UserError(
                f"{path}: two of the files that it includes give --{name}, one of them at {other.source}; "
                "write it in this file."
            )
    return {**included, **own}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8", "surrogatepass")
        bad = re.search("[\ud800-\udc7f\udd00-\udfff]", text)
        position = len(text[: bad.start()].encode("utf-8", "surrogatepass")) if bad else None
    except UnicodeDecodeError as error:
        position = error.start
    if position is not None:
        line = len(_LINE_END.findall(data[:position].decode("latin-1"))) + 1
        raise UserError(f"{path}:{line}: byte 0x{data[position]:02x} is not UTF-8; save the file as UTF-8.")
    return text


def _parse_line(line: str, where: str) -> Given:
    comment = re.search(r"[ \t]+#", line)
    if comment:
        raise UserError(
            f"{where}: a comment needs a line of its own; write {line[: comment.start()]} "
            r"(and \# for a # that belongs to the value)."
        )
    if len(line) > 1 and line[0] in "\"'" and line[-1] == line[0]:
        raise UserError(f"{where}: quotes are not needed; write {line[1:-1]}")
    match = re.fullmatch(r"--([^\s=]+)(.*)", line, re.DOTALL)
    if not match:
        dashed = re.fullmatch(r"-?([A-Za-z][\w.]*)\s*[=:]?\s*(.*)", line)
        right = f"--{dashed[1]}={dashed[2]}" if dashed else "--flag=value"
        raise UserError(f"{where}: {line}: a line is a flag or a comment that starts with #; write {right}")
    name, rest = match.groups()
    if not rest:
        return Given(name, None, where)
    value = rest.strip(" \t").removeprefix("=").strip(" \t")
    if rest != f"={value}":
        raise UserError(f"{where}: {line}: write --{name}={value}")
    return Given(name, _decode(value, where, f"--{name}=", environment=os.environ, home=_home()), where)


def _decode(value: str, where: str, before: str, *, environment: Mapping[str, str], home: str | None) -> str:
    """Expands and unescapes a value; `home=None` refuses `~`, and variables that are not in `environment` are errors."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        raise UserError(f"{where}: quotes are not needed; write {before}{quoted[1]}{quoted[3]}")
    homes = {match.end() - 1 for match in _HOME.finditer(value)}
    pieces, position = [], 0
    while position < len(value):
        character = value[position]
        variable = _VARIABLE.match(value, position)
        if character == "\\" and value[position + 1 : position + 2] in tuple(_SPECIAL):
            pieces.append(value[position + 1])
            position += 2
        elif variable:
            name = variable[1] or variable[2]
            if name not in environment:
                raise UserError(
                    f"{where}: {before}{value}: the environment variable {name} is not set "
                    r"(write \$ for a dollar sign)."
                )
            pieces.append(environment[name])
            position = variable.end()
        elif position in homes:
            if home is None:
                raise UserError(f"{where}: {before}{value}: there is no home folder.")
            pieces.append(home)
            position += 1
        else:
            pieces.append(character)
            position += 1
    return "".join(pieces)


def _home() -> str:
    return str(Path("~").expanduser())

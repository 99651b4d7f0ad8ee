"""Rows of texts, pictures and labels, read from files that give columns and rows."""

import array
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfpt.data._columns import AUTO, ColumnsConfig, Roles, choose
from tfpt.data._content import DIGEST, content_hash
from tfpt.data._files import Files
from tfpt.data._labels import Cell, LabelError, Labels, are_numbers, cell, interpret, is_empty
from tfpt.data._texts import Texts, TextsBuilder
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_UNLABELED = ("", "-1")
"""What a test file without labels has in its label column."""


class TableFile(Protocol):
    """One opened file.

    Attributes:
        columns: their names, or their numbers (`1`, `2`, ...) where there is no header.
        first: the first row, a cell a column.
        guessed: whether nobody but the reader says that there is no header.
    """

    columns: Sequence[str]
    first: Sequence[Any]
    guessed: bool

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields line number and wanted cells of each row."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """All rows of all files.

    Attributes:
        files: path and split of each file.
        file: `[rows]` int64, in which file a row is.
        line: `[rows]` int64, where it begins there.
        columns: `text`, `text_pair`, `image`, as far as there are such -> its column in the first file.
        inputs: these (pictures as bytes or absolute paths) of all rows; empty when the source reads them again.
        pictures: whether `image` holds pictures themselves, not paths.
        digests: `[rows * DIGEST]` bytes: hashes of the inputs.
        code: `[rows]` int64, which of the different labels a row has.
        labels: what the different labels mean; None where there are none.
        notes: sentences for the user.
    """

    files: tuple[tuple[Path, str], ...]
    file: "np.ndarray"
    line: "np.ndarray"
    columns: dict[str, str]
    inputs: dict[str, Texts]
    pictures: bool
    digests: "np.ndarray"
    code: "np.ndarray"
    labels: Labels | None
    notes: tuple[str, ...]


def as_bytes(value: Any) -> bytes:
    """Returns a text or picture cell as bytes: UTF-8, with `?` for half a surrogate pair, which UTF-8 cannot hold.

    Raises:
        ValueError: it is a list or the like.
    """
    if isinstance(value, str):
        return value.encode(errors="replace")
    if value is None or value != value:  # NaN
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):  # a picture in files of Hugging Face datasets
        return value["bytes"]
    if isinstance(value, int | float):
        return str(value).encode()
    raise ValueError(f"is a {type(value).__name__}, not a text")


class _Rows:
    """Collects the rows of all files; without `keep`, of texts and pictures only their hashes."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.inputs: dict[str, TextsBuilder] = {}
        self.line = array.array("q")
        self.code = array.array("q")
        self.ends: list[int] = []
        self.digests = bytearray()
        self.different: dict[tuple[Cell, ...], int] = {}
        self.pictures: set[bool] = set()
        self.without_text = array.array("q")

    def add(self, file: TableFile, path: Path, roles: Roles, *, labels: int) -> None:
        """Reads one file; `labels` is how many label columns the others have."""
        inputs = roles.inputs()
        builders = [self.inputs.setdefault(name, TextsBuilder()) for name in inputs] if self.keep else []
        image = list(inputs).index("image") if "image" in inputs else -1
        count = len(inputs)
        words = [k for k, name in enumerate(inputs) if name != "image"]
        nothing: tuple[Cell, ...] = ("",) * labels
        for line, cells in file.rows([*inputs.values(), *roles.label]):
            try:
                texts = [as_bytes(value) for value in cells[:count]]
                label = tuple([cell(value) for value in cells[count:]]) or nothing
            except ValueError as error:
                raise UserError(f"{path}:{line}: a cell {error}.") from error
            if not all(texts[k].strip() for k in words):
                self.without_text.append(len(self.line))
            if image >= 0:
                inside = not isinstance(cells[image], str)
                self.pictures.add(inside)
                if not inside:
                    texts[image] = os.path.join(os.fsencode(path.parent), texts[image])  # noqa: PTH118 - bytes
            for builder, text in zip(builders, texts, strict=self.keep):
                builder.append(text)
            if len(texts) > 1 and image >= 0 and not inside:
                del texts[image]  # its content counts, not its path
            self.digests += content_hash(*texts)
            self.line.append(line)
            self.code.append(self.different.setdefault(label, len(self.different)))
        self.ends.append(len(self.line))
        if len(self.line) == sum(self.ends[-2:-1]):
            raise UserError(f"{path} holds no rows.")


def read_table(
    found: Files, config: ColumnsConfig, open_file: Callable[[Path], TableFile], *, keep: bool = True
) -> Table:
    """Reads all files.

    Args:
        found: the files.
        config: what the columns are.
        open_file: opens one.
        keep: whether texts and pictures are kept; without, the source reads them again where they are.

    Raises:
        UserError: a file cannot be read, or rows make no sense; the sentence names file and line.
    """
    import numpy as np

    rows, files, said = _Rows(keep=keep), found.files, list(found.notes)
    opened: list[TableFile] = []
    chosen: list[Roles] = []
    for path, split in files:
        file = open_file(path)
        roles = choose(
            file.columns,
            config=_like(config, chosen[0], file.columns) if chosen else config,
            where=str(path),
            first=file.first,
            label_required=split in ("train", "") or len(files) == 1,
        )
        opened.append(file)
        chosen.append(roles)
    _check_alike(files, chosen, exactly=not keep)
    label_columns = next((roles.label for roles in chosen if roles.label), ())
    for (path, _), file, roles in zip(files, opened, chosen, strict=True):
        rows.add(file, path, roles, labels=len(label_columns))
    if len(rows.pictures) > 1:
        raise UserError(f"{files[0][0]}: some cells of the column {chosen[0].image} are paths and some are pictures.")
    said += dict.fromkeys(f"{_names(files, chosen, roles)}: {roles.sentence()}." for roles in chosen)
    file_of = np.repeat(np.arange(len(files)), np.diff([0, *rows.ends]))
    line, code = np.array(rows.line, np.int64), np.array(rows.code, np.int64)
    different = list(rows.different)
    labels, kept = None, np.ones(len(line), bool)
    if label_columns:
        left_out = _unlabeled(files, file_of, code, different)
        if len(left_out) == len(files):
            raise UserError(
                f"{files[0][0]}: the label column {', '.join(label_columns)} is empty in every row; name another with "
                "--data.label=COLUMN, or write --data.label=none."
            )
        kept = ~np.isin(file_of, left_out)
        said += [f"{files[k][0].name} has no labels and is left out." for k in left_out]
        used, first, compact = np.unique(code[kept], return_index=True, return_inverse=True)
        place = [f"{files[f][0]}:{n}" for f, n in zip(file_of[kept][first], line[kept][first], strict=True)]
        different = [different[k] for k in used]
        _check_no_header(files, opened, rows)
        _check_empty(config, files, file_of[kept], line[kept], compact, different, label_columns)
        try:
            labels = interpret(different, label_columns, kind=config.label_type, separator=config.label_separator)
        except LabelError as error:
            column = f"the column {', '.join(label_columns)}"
            raise UserError(f"{place[error.position]}: in {column}, {error}.") from error
        said += [labels.note] if labels.note else []
        code = compact
    empty = [k for k in rows.without_text if kept[k]]
    if empty:
        places = ", ".join(f"{files[file_of[k]][0].name}:{line[k]}" for k in empty[:5])
        said.append(
            f"{len(empty)} row{'s have' if len(empty) > 1 else ' has'} no text: {places}{', ...' if len(empty) > 5 else ''}."
        )
    digests = np.frombuffer(bytes(rows.digests), np.uint8).reshape(-1, DIGEST)
    return Table(
        files=files,
        file=file_of[kept],
        line=line[kept],
        columns=chosen[0].inputs(),
        inputs={name: builder.build().only(kept) for name, builder in rows.inputs.items()},
        pictures=True in rows.pictures,
        digests=digests[kept],
        code=code,
        labels=labels,
        notes=tuple(said),
    )


def _like(config: ColumnsConfig, roles: Roles, columns: Sequence[str]) -> ColumnsConfig:
    """Returns what to choose in a further file: what `auto` chose in the first, as far as it is there."""
    auto: dict[str, Any] = {
        name: column for name, column in roles.inputs().items() if getattr(config, name) == AUTO and column in columns
    }
    if config.label == (AUTO,) and roles.label:
        auto["label"] = roles.label
    return dataclasses.replace(config, **auto)


def _names(files: Sequence[tuple[Path, str]], chosen: Sequence[Roles], roles: Roles) -> str:
    return ", ".join(path.name for (path, _), other in zip(files, chosen, strict=True) if other == roles)


def _check_alike(files: Sequence[tuple[Path, str]], chosen: Sequence[Roles], *, exactly: bool) -> None:
    """Refuses a file without the inputs of the first; with `exactly`, also one where they are in other columns."""
    first = chosen[0].inputs()
    for (path, _), roles in zip(files, chosen, strict=True):
        own = roles.inputs()
        differs = own != first if exactly else set(own) != set(first)
        if differs or len(roles.label) not in (0, len(chosen[0].label)):
            raise UserError(
                f"{path} has other columns than {files[0][0].name} ({roles.sentence()}; there, {chosen[0].sentence()}); name them "
                "with --data.text=COLUMN and --data.label=COLUMN."
            )


def _unlabeled(
    files: Sequence[tuple[Path, str]], file_of: "np.ndarray", code: "np.ndarray", different: Sequence[tuple[Cell, ...]]
) -> list[int]:
    """Returns the files in which no row has a label; -1 is none only where no other file has it."""
    import numpy as np

    inside = [{different[c] for c in np.unique(code[file_of == k])} for k in range(len(files))]
    empty = {k for k, labels in enumerate(inside) if all(map(is_empty, labels))}
    minus = {k for k, labels in enumerate(inside) if all(part in _UNLABELED for label in labels for part in label)}
    meant = any("-1" in label for k, labels in enumerate(inside) if k not in minus for label in labels)
    labeled = len(minus) < len(files)
    return sorted(minus if labeled and not meant else empty)


def _check_empty(
    config: ColumnsConfig,
    files: Sequence[tuple[Path, str]],
    file_of: "np.ndarray",
    line: "np.ndarray",
    code: "np.ndarray",
    different: Sequence[tuple[Cell, ...]],
    columns: Sequence[str],
) -> None:
    """Refuses rows without a label; in a cell of several names, none is an answer."""
    import numpy as np

    if len(columns) == 1 and (config.label_type == "multi" or any(isinstance(label[0], tuple) for label in different)):
        return
    bad = [k for k, label in enumerate(different) if "" in label]
    rows = np.flatnonzero(np.isin(code, bad))
    if len(rows):
        places = ", ".join(f"{files[file_of[k]][0].name}:{line[k]}" for k in rows[:5])
        raise UserError(
            f"{files[file_of[rows[0]]][0]}: {len(rows)} row{'s have' if len(rows) > 1 else ' has'} no label in the column "
            f"{', '.join(columns)}: {places}{', ...' if len(rows) > 5 else ''}; fill it in, or remove them."
        )


def _check_no_header(files: Sequence[tuple[Path, str]], opened: Sequence[TableFile], rows: _Rows) -> None:
    """Refuses a first row that looks like a header with unknown names.

    Its label is no number and occurs nowhere else, while all others are numbers, or occur twice.
    """
    count = Counter(rows.code)
    different = list(rows.different)
    for (path, _), file, start in zip(files, opened, [0, *rows.ends[:-1]], strict=True):
        own = rows.code[start]
        others = set(count) - {own}
        alone = file.guessed and others and count[own] == 1 and not are_numbers([different[own]])
        if alone and (min(count[k] for k in others) > 1 or are_numbers([different[k] for k in others])):
            raise UserError(
                f"{path}: the first row looks like a header ({', '.join(map(str, file.first))}); write --data.header=yes with "
                "--data.text=COLUMN and --data.label=COLUMN, or --data.header=no if it is an example."
            )

"""Which column of a table is the text, the second text, the picture and the label."""

import dataclasses
from collections.abc import Sequence

from tfpt.config import check, setting
from tfpt.data import DataSource, _tiff
from tfpt.data._walk import PICTURES
from tfpt.errors import UserError

_PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("text1", "text2"),
)
_TEXT = ("text", "sentence", "review", "content", "body")
_IMAGE = ("image", "image/encoded", "path", "image_path", "filename", "file")
_LABEL = (
    "label",
    "labels",
    "class",
    "image/class/label",
    "target",
    "category",
    "sentiment",
    "gold_label",
    "is_duplicate",
)
_TOKENS, _TAGS = ("tokens", "words"), ("ner_tags", "tags", "ner", "labels", "pos_tags")
_KNOWN = frozenset((*_TEXT, *_IMAGE, *_LABEL, *_TOKENS, *_TAGS, *(name for pair in _PAIRS for name in pair)))

AUTO, NONE = "auto", "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnsConfig(DataSource.Config):
    """Flags of the group `data` that say what the columns are."""

    text: str = setting(
        "auto",
        "Column of the text: its name, or its number from 1 where there is no header. auto: a column called text, sentence, review, content "
        "or body, or the first of two, where --data.image is not given; none: there is no text.",
    )
    text_pair: str = setting(
        "auto",
        "Column of the second text of a pair. auto: by names such as sentence1 and sentence2, or question1 and question2; none: no pair.",
    )
    image: str = setting(
        "auto",
        "Column with pictures, or with their paths relative to the file. auto: a column called image, image/encoded, path, image_path, filename "
        "or file where there is no text; none: no pictures.",
    )
    label: tuple[str, ...] = setting(
        ("auto",),
        "Column of the label, or several with commas between them: a,b,c. auto: a column called label, labels, class, image/class/label, "
        "target, category, sentiment, gold_label or is_duplicate, or the other one of two; none: no labels.",
    )
    label_type: str = setting(
        "auto",
        "What labels are. class: one class; multi: any number of classes (a,b,c as columns of 0 and 1, or names in one cell); number: one or "
        "several numbers. auto: by looking at them.",
        choices=("auto", "class", "number", "multi"),
    )
    label_separator: str = setting("|", "What stands between the names in one cell with --data.label_type=multi.")

    def __post_init__(self) -> None:
        if isinstance(self.label, str):  # written in Python as it is in a flag
            object.__setattr__(self, "label", tuple(part.strip() for part in self.label.split(",")))
        check(all(self.label) and bool(self.label), "label: is empty; write the name of a column, auto or none")
        lonely = len(self.label) == 1 or not {AUTO, NONE} & set(self.label)
        check(lonely, f"label: {','.join(self.label)} mixes auto or none with columns")
        check(len(set(self.label)) == len(self.label), f"label: {','.join(self.label)} has a column twice")
        check(
            len(self.label) == 1 or self.label_type != "class",
            f"label_type: class is one column, and --data.label={','.join(self.label)} has several",
        )
        check(bool(self.label_separator), "label_separator: is empty")

    def named(self) -> list[str]:
        """Returns the columns that were given by name, not by number."""
        given = (self.text, self.text_pair, self.image, *self.label)
        return [name for name in given if name not in (AUTO, NONE) and not name.isdecimal()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """Names of the columns that are read; empty for what there is not."""

    text: str = ""
    text_pair: str = ""
    image: str = ""
    label: tuple[str, ...] = ()

    def inputs(self) -> dict[str, str]:
        """Returns feature name -> column for text, text pair and picture."""
        return {feature: getattr(self, feature) for feature in ("text", "text_pair", "image") if getattr(self, feature)}

    def sentence(self) -> str:
        """Says it: `column sentence is the text, column label the label`."""
        said = [f"column {column} is the {feature}" for feature, column in self.inputs().items()]
        labels = f"column{'s' * (len(self.label) > 1)} {', '.join(self.label)} the label" if self.label else "no label"
        return ", ".join([*said, labels])


def has_known_name(cells: Sequence[str], following: Sequence[Sequence[str]]) -> bool:
    """Whether a first row is a header: it has a name that `auto` knows, and none of the following rows has it in its place.

    A following row that is the same is no other: files that were put together have a header each.
    """
    return any(
        cell.strip().lower() in _KNOWN and not any(row != cells and row[k : k + 1] == [cell] for row in following)
        for k, cell in enumerate(cells)
    )


def choose(
    columns: Sequence[str], *, config: ColumnsConfig, where: str, first: Sequence[object], label_required: bool
) -> Roles:
    """Chooses the columns.

    Args:
        columns: their names; their numbers (`1`, `2`, ...) where there is no header.
        config: what the user says.
        where: the file, for messages.
        first: the first row, shown when a column cannot be chosen.
        label_required: whether labels that `config` asks for must be there.

    Raises:
        UserError: a column is not there, is there twice, or must be named.
    """

    def column(flag: str, wanted: str) -> str:
        found = [name for name in columns if name == wanted] or [
            name for name in columns if name.strip().lower() == wanted.lower()
        ]
        if len(found) > 1:
            raise UserError(f"{where} has {len(found)} columns called {wanted} (--data.{flag}); rename all but one.")
        if not found and wanted.isdecimal() and 1 <= int(wanted) <= len(columns):
            found = [columns[int(wanted) - 1]]
        if not found:
            raise UserError(f"{where}: --data.{flag}={wanted} is not a column; columns are {_shown(columns, first)}.")
        return found[0]

    def known(flag: str, names: Sequence[str]) -> str:
        there = {name.strip().lower(): name for name in columns if name not in taken}
        match = next((there[name] for name in names if name in there), "")
        return column(flag, match) if match else ""

    taken: set[str] = set()
    text, pair, image = (
        "" if wanted in (AUTO, NONE) else column(flag, wanted)
        for flag, wanted in (("text", config.text), ("text_pair", config.text_pair), ("image", config.image))
    )
    label: tuple[str, ...] = ()
    if config.label[0] not in (AUTO, NONE):
        try:
            label = tuple(column("label", wanted) for wanted in config.label)
        except UserError:
            if label_required:
                raise
    taken = {text, pair, image, *label}
    if config.text == AUTO and config.text_pair == AUTO and not image:
        found = ((known("text", [one]), known("text_pair", [other])) for one, other in _PAIRS)
        text, pair = next((both for both in found if all(both)), ("", ""))
    if config.text == AUTO and not text and not image:
        text = known("text", _TEXT)
    if config.image == AUTO and not text:
        image = known("image", _IMAGE)
    taken |= {text, pair, image}
    if config.label == (AUTO,):
        label = tuple(filter(None, [known("label", _LABEL)]))
        taken |= set(label)
    left = [name for name in columns if name not in taken]
    if not (text or image) and left and len(columns) == 2:
        if config.image == AUTO and _is_picture(first[columns.index(left[0])]):
            image = left.pop(0)
        elif config.text == AUTO:
            text = left.pop(0)
    if not (text or image):
        raise UserError(
            f"{where}: which column is the text? Columns are {_shown(columns, first)}; write {_way_out(columns, config)}."
        )
    if config.label == (AUTO,) and not label and left:
        if len(columns) == 2:
            label = (left[0],)
        elif label_required:
            raise UserError(
                f"{where}: which column is the label? Columns are {_shown(columns, first)}; write --data.label=COLUMN, or "
                "--data.label=none."
            )
    return Roles(text=text, text_pair=pair, image=image, label=label)


def _way_out(columns: Sequence[str], config: ColumnsConfig) -> str:
    """Says which flags name the columns, by what their names look like."""
    there = {name.strip().lower(): name for name in columns}
    tokens, tags = (next((there[name] for name in names if name in there), "") for names in (_TOKENS, _TAGS))
    if tokens and tags and hasattr(config, "tokens"):
        return f"--data.tokens={tokens} and --data.tags={tags}"
    if {"question", "context"} <= set(there):
        return (
            f"--data.text={there['question']}, --data.text_pair={there['context']} and --data.label=none, or name the column of the "
            "answers with --data.answers=COLUMN"
        )
    return "--data.text=COLUMN (or --data.image=COLUMN for paths of pictures) and --data.label=COLUMN"


def _is_picture(cell: object) -> bool:
    return isinstance(cell, str) and cell.rpartition(".")[2].lower().encode() in PICTURES | _tiff.EXTENSIONS


def _shown(columns: Sequence[str], first: Sequence[object]) -> str:
    """Returns the columns as a list; numbers are shown with what the first row has there."""
    numbered = all(name.isdecimal() for name in columns)
    cells = [str(cell)[:20] for cell in first] if numbered else []
    named = [f"{name} ({cell})" for name, cell in zip(columns, cells, strict=True)] if numbered else list(columns)
    return ", ".join(named[:20]) + (", ..." if len(named) > 20 else "")

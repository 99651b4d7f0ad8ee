"""A text with parts of it marked, cut into pieces that a page shows one after the other."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tfpt.evaluation.printable import shortened

ALL = 600
"""Characters of a text that are shown whole."""
AROUND = 140
"""Characters that are shown on each side of a mark of a longer text."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A marked part.

    Attributes:
        start: its first character.
        end: the one after its last.
        kind: `true`, `missed`, `right` or `wrong`.
        label: is written behind it.
    """

    start: int
    end: int
    kind: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a text in which the marks do not change.

    Attributes:
        text: its characters.
        kinds: of the marks over it.
        ended: the marks with a label that end behind it.
    """

    text: str
    kinds: tuple[str, ...] = ()
    ended: tuple[Mark, ...] = ()


def pieces(text: str, marks: Sequence[Mark]) -> list[Piece]:
    """Returns the text in pieces; of a long one, what is around the marks, or its beginning where nothing is marked."""
    if len(text) > ALL and not marks:
        return [Piece(text=shortened(text, ALL))]
    bounds = sorted({0, len(text), *(place for mark in marks for place in (mark.start, mark.end))})
    found = []
    for begin, end in itertools.pairwise(bounds):
        over = [mark for mark in marks if mark.start <= begin and mark.end >= end]
        ended = tuple(mark for mark in over if mark.end == end and mark.label)
        part = text[begin:end]
        if not over and len(text) > ALL:
            part = _between(part, first=begin == 0, last=end == len(text))
        found.append(Piece(text=part, kinds=tuple(dict.fromkeys(mark.kind for mark in over)), ended=ended))
    return found


def _between(text: str, *, first: bool, last: bool) -> str:
    """Returns the ends of what is not marked, which are next to marks."""
    before = "" if first else text[:AROUND]
    after = "" if last else text[-AROUND:]
    if len(before) + len(after) >= len(text):
        return text
    return f"… {after}" if first else f"{before} …" if last else f"{before} … {after}"

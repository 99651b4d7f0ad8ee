"""Where each content or group goes: by shares into train, validation and test, or by folds.

A unit's place is decided by a position from 0 to 1 that is made of its hash; then the fewest units move, so that every class is
in every place.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfpt.config import Input
from tfpt.data import Index
from tfpt.errors import UserError
from tfpt.training.coverage import Classes, cover

TRAIN, VALIDATION, TEST = range(3)
NAMES = ("train", "validation", "test")
_ON_THE_LINE = (TEST, VALIDATION, TRAIN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """Which classes each example has.

    Attributes:
        pairs: `[n, 2]` int64: example, class. Where an example may have any number of classes, all have the last one.
        labels: `[examples]` int64: the one class of each; 0 where it may have any number.
        names: of the classes; empty for one that the user does not know.
        several: whether an example may have any number.
    """

    pairs: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, index: Index, classes: Sequence[str]) -> "Held":
        """Reads the table of a source; `classes` are the names."""
        every = np.arange(len(index.names))
        if index.held is not None:
            count = index.held.shape[1]
            pairs = np.concatenate([np.argwhere(index.held), np.stack([every, np.full_like(every, count)], axis=1)])
            named = tuple(classes) if len(classes) == count else tuple(map(str, range(count)))
            return cls(pairs=pairs, labels=np.zeros_like(every), names=(*named, ""), several=True)
        labels = np.zeros_like(every) if index.labels is None else np.asarray(index.labels, np.int64)
        names = ("",) if index.labels is None else tuple(classes) or tuple(map(str, range(labels.max(initial=0) + 1)))
        return cls(pairs=np.stack([every, labels], axis=1), labels=labels, names=names, several=False)

    def of_units(self, examples: np.ndarray, units: np.ndarray) -> Classes:
        """Returns the classes of units; `units` has one entry an example."""
        unit = np.full(len(self.labels), -1, np.int64)
        unit[examples] = units
        unit_of_pair = unit[self.pairs[:, 0]]
        inside = unit_of_pair >= 0
        return Classes.of(set(zip(self.pairs[inside, 1].tolist(), unit_of_pair[inside].tolist(), strict=True)))

    def called(self, label: int) -> str:
        """Returns what a sentence calls a class."""
        return f"the class {self.names[label]}" if self.names[label] else "the data"

    def must_be_everywhere(self, label: int) -> bool:
        """Whether it is a mistake if the class is in too few places: rare ones are usual where an example may have several."""
        return not (self.several and self.names[label])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
    """What is divided: contents, or groups.

    Attributes:
        line: `[units]`, a position from 0 to 1, which decides between splits or folds.
        second_line: another one, which divides what a fold leaves.
        classes: of the units.
        names: unit -> the name of its first example.
    """

    line: np.ndarray
    second_line: np.ndarray
    classes: Classes
    names: Mapping[int, str]


def by_shares(units: Units, shares: Sequence[int], held: Held, options: Input, notes: list[str]) -> np.ndarray:
    """Returns the split of each unit by shares."""
    intervals = _intervals(shares)
    place = _by_threshold(units.line, intervals)
    if options.splits:
        return place
    order = [part for part in (TRAIN, TEST, VALIDATION) if shares[part]]
    found = units.classes.units
    few = [
        (label, len(own)) for label, own in found.items() if len(own) < len(order) and held.must_be_everywhere(label)
    ]
    if few:
        _raise_too_few(few, len(order), "split", held, options)
    wanted = {label: order[: len(own)] for label, own in found.items()}
    moves, stuck = cover(place, units.line, units.classes, intervals=intervals, wanted=wanted)
    _report_moves(moves, stuck, "split", NAMES, units, held, notes)
    return place


def by_fold(units: Units, shares: Sequence[int], held: Held, options: Input, notes: list[str]) -> np.ndarray:
    """Returns the split of each unit in one fold; what the folds are depends neither on which one it is nor on the shares."""
    folds, number = options.folds, 0 if options.fold == "all" else options.fold
    notes.append(
        f"Fold {number} of {folds}, counted from 0, is test"
        + ("; with --input.fold=all each is in turn, and this is the first." if options.fold == "all" else ".")
    )
    intervals = {fold: (fold / folds, (fold + 1) / folds) for fold in range(folds)}
    fold_of = _by_threshold(units.line, intervals)
    found = units.classes.units
    few = [(label, len(own)) for label, own in found.items() if len(own) < 2 and held.must_be_everywhere(label)]
    if few:
        _raise_too_few(few, 2, "fold", held, options)
    wanted: dict[int, list[int]] = {}
    for label, own in found.items():
        there = sorted({int(fold_of[unit]) for unit in own})
        if len(own) >= folds:
            wanted[label] = list(range(folds))
        else:  # it cannot be in every fold; but where all of it is in test, nothing is left to learn it from
            wanted[label] = there if len(there) > 1 or len(own) == 1 else [*there, (there[0] + 1) % folds]
    moves, stuck = cover(fold_of, units.line, units.classes, intervals=intervals, wanted=wanted)
    _report_moves(moves, stuck, "fold", [f"fold {fold}" for fold in range(folds)], units, held, notes)
    place = np.full(len(fold_of), TEST, np.int64)
    rest = np.flatnonzero(fold_of != number)
    within = (shares[TRAIN], shares[VALIDATION], 0)
    place[rest] = _by_threshold(units.second_line[rest], _intervals(within))
    left = units.classes.only(set(rest.tolist()))
    order = [part for part in (TRAIN, VALIDATION) if within[part]]
    again = {label: order[: len(own)] for label, own in left.units.items()}
    moves, stuck = cover(place, units.second_line, left, intervals=_intervals(within), wanted=again)
    _report_moves(moves, stuck, "split", NAMES, units, held, notes)
    return place


def _report_moves(
    moves: Sequence[tuple[int, int, int]],
    stuck: Sequence[tuple[int, int]],
    what: str,
    places: Sequence[str],
    units: Units,
    held: Held,
    notes: list[str],
) -> None:
    if moves:
        moved = [f"{units.names[unit]} from {places[here]} to {places[there]}" for unit, here, there in moves]
        pin = "" if what == "fold" else ", which --input.splits with this run's splits.csv prevents"
        notes.append(
            f"Moved so that every class is in every {what}: {in_words(moved)}; when examples are added they may move back{pin}."
        )
    if stuck:
        missing = in_words([f"{held.called(label)} in {places[part]}" for label, part in stuck])
        notes.append(
            f"No way was found to have every class in every {what} without tearing groups apart: no {missing}."
        )


def _intervals(shares: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Returns where each split lies on the line from 0 to 1."""
    ends = np.cumsum([shares[part] for part in _ON_THE_LINE]) / sum(shares)
    return {part: (low, high) for part, low, high in zip(_ON_THE_LINE, [0.0, *ends[:-1]], ends, strict=True)}


def _by_threshold(line: np.ndarray, intervals: dict[int, tuple[float, float]]) -> np.ndarray:
    place = np.full(len(line), next(reversed(intervals)), np.int64)
    for part, (low, high) in intervals.items():
        place[(low <= line) & (line < high)] = part
    return place


def _raise_too_few(few: list[tuple[int, int]], needed: int, what: str, held: Held, options: Input) -> None:
    unit = "group" if options.group else "different example"
    counts = in_words([f"{held.called(label)} has {count} {unit}{'s' * (count > 1)}" for label, count in few])
    units = f"at least {needed} {unit}{'s' * (needed > 1)} of each class"
    raise UserError(
        f"--input.folds={options.folds} needs {units}, one to learn from and one to test, but {counts}; add examples, or remove the class."
        if what == "fold"
        else f"--input.split={','.join(map(str, options.split))} needs {units}, one for each split, but {counts}; add examples, remove "
        "the class, or give a split 0 percent."
    )


def in_words(parts: list[str]) -> str:
    """Returns a list in words, its first five."""
    return ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")

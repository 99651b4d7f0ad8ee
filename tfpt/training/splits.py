"""Train, validation and test: decided by a hash of the content, so that a new file moves no old one.

An example's place is a number in [0, 1) made of its content (or of its group) and the split seed. Test is what lies
below the test share, validation what comes next, train the rest. No random state is involved and no order matters.
"""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tfpt.config import Input
from tfpt.data import Index
from tfpt.errors import UserError
from tfpt.training.split_file import SplitFile, read_csv

TRAIN, VALIDATION, TEST = range(3)
NAMES = ("train", "validation", "test")
_ON_THE_LINE = (TEST, VALIDATION, TRAIN)
_FREE = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Which example is where: indices into the source, ascending, int64.

    Attributes:
        train: `[n]`, examples to train on.
        validation: `[n]`, examples for stopping, thresholds and choices.
        test: `[n]`, examples that only evaluation reads.
        left_out: `[n]`, training examples that `--input.examples_per_class` leaves out.
        notes: sentences for the user.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    left_out: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    notes: tuple[str, ...] = ()


def split(index: Index, digests: Sequence[bytes], options: Input, *, classes: Sequence[str] = ()) -> Splits:
    """Splits a source by `--input.split`, `split_seed`, `group`, `splits`, `examples_per_class` and `examples_seed`.

    What the data puts into a split stays there. The same content, or the same group, is always in one split.

    Args:
        index: the table of examples.
        digests: `[examples]`, their content hashes.
        options: the flags.
        classes: class names in index order, for messages.

    Raises:
        UserError: a class is too small to be in every split or absent from train, a name matches no group, or
            `--input.splits` does not fit the data.
    """
    notes: list[str] = []
    keys = _keys(index.names, digests, options.group, notes)
    labels = np.zeros(len(keys), np.int64) if index.labels is None else np.asarray(index.labels, np.int64)
    names = ("",) if index.labels is None else tuple(classes) or tuple(map(str, range(labels.max(initial=0) + 1)))
    if options.splits:
        place = _pinned(read_csv(options.splits), index.names, digests, keys, options, notes)
        shares = options.split
    else:
        place, shares = _given(index.splits, options.split, notes)
    free = np.flatnonzero(place == _FREE)
    numbers: dict[bytes, int] = {}
    units = np.array([numbers.setdefault(keys[k], len(numbers)) for k in free], np.int64)
    line = np.array([_position(key, options.split_seed, b"tfpt split") for key in numbers])
    unit_place = _by_threshold(line, shares)
    if not options.splits:
        _reach_every_split(unit_place, line, units, free, labels, shares, index.names, names, options, notes)
    place[free] = unit_place[units]
    _check_train(place, labels, index.names, names, options)
    _report_leaks(place, keys, digests, notes)
    left_out = _thin(place, labels, index.names, digests, names, options, notes)
    kept = np.setdiff1d(np.flatnonzero(place == TRAIN), left_out)
    validation, test = (np.flatnonzero(place == part) for part in (VALIDATION, TEST))
    return Splits(train=kept, validation=validation, test=test, left_out=left_out, notes=tuple(notes))


def _position(key: bytes, seed: int, purpose: bytes) -> float:
    """Returns a number in [0, 1) that only the key, the seed and the purpose decide (BLAKE2b, RFC 7693)."""
    salt = seed.to_bytes(16, "little", signed=True)
    value = hashlib.blake2b(key, digest_size=8, salt=salt, person=purpose).digest()
    return (int.from_bytes(value, "little") >> 11) / 2**53  # 53 bits: exact in a float, and never 1


def _keys(names: Sequence[str], digests: Sequence[bytes], group: str, notes: list[str]) -> list[bytes]:
    """Returns what must not be torn apart: the content hash, or the text that `--input.group` matches."""
    if not group:
        return list(digests)
    pattern = re.compile(group)
    keys = []
    for name in names:
        match = pattern.search(name)
        text = match.group(1 if pattern.groups else 0) if match else ""
        if not text:
            raise UserError(
                f"--input.group={group} finds nothing in the name {name}; write a regular expression that matches in "
                "every name."
            )
        keys.append(text.encode("utf-8", "surrogatepass"))
    keys = _joined_by_content(keys, digests)
    notes.append(f"--input.group={group} makes {len(set(keys))} groups of {len(keys)} examples.")
    return keys


def _joined_by_content(keys: Sequence[bytes], digests: Sequence[bytes]) -> list[bytes]:
    """Returns the keys with groups that share a content made one, under the smallest of their names."""
    parent = {key: key for key in keys}

    def root(key: bytes) -> bytes:
        while parent[key] != key:
            key = parent[key] = parent[parent[key]]
        return key

    first: dict[bytes, bytes] = {}
    for key, digest in zip(keys, digests, strict=True):
        a, b = root(key), root(first.setdefault(digest, key))
        parent[max(a, b)] = min(a, b)
    return [root(key) for key in keys]


def _given(splits: Sequence[str], wanted: tuple[int, ...], notes: list[str]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns the places that the data gives, and the shares by which the rest is divided."""
    given = set(splits) - {""}
    place = np.array([NAMES.index(name) if name in ("validation", "test") else _FREE for name in splits], np.int64)
    shares = tuple(0 if name in given - {"train"} else share for name, share in zip(NAMES, wanted, strict=True))
    if given and not given & {"train"} and "" not in splits:
        raise UserError(f"The data gives the split {' and '.join(sorted(given))} but no train; add a folder train.")
    carved = [part for part in (VALIDATION, TEST) if given and shares[part]]
    if carved:
        percent = " and ".join(f"{100 * shares[part] / sum(shares):.0f} % as {NAMES[part]}" for part in carved)
        notes.append(f"The data gives the split {' and '.join(sorted(given))}; {percent} is taken out of train.")
    return place, shares


def _pinned(
    file: SplitFile, names: Sequence[str], digests: Sequence[bytes], keys: list[bytes], options: Input, notes: list[str]
) -> np.ndarray:
    """Returns the places that a splits.csv gives: by name, else by content, else by the group of a known example."""
    by_name = [file.by_name.get(name) for name in names]
    by_digest = [None if known else file.by_digest.get(digest) for known, digest in zip(by_name, digests, strict=True)]
    place = [known or moved for known, moved in zip(by_name, by_digest, strict=True)]
    if not any(place):
        raise UserError(
            f"--input.splits={options.splits}: none of its {len(file.by_name)} examples is in the data; is it of "
            "another data set?"
        )
    group = {key: known for key, known in zip(keys, place, strict=True) if known}
    place = [known or group.get(key) for known, key in zip(place, keys, strict=True)]
    present, contents = set(names), set(digests)
    gone = sum(n not in present and file.digests.get(n) not in contents for n in file.by_name)
    changed = sum(file.digests.get(n, digest) != digest for n, digest in zip(names, digests, strict=True))
    for count, sentence in (
        (sum(map(bool, by_digest)), "found under another name, by the content"),
        (gone, "of the file not in the data"),
        (changed, "changed since the file was written"),
        (place.count(None), "not in the file, split by the content"),
    ):
        if count:
            notes.append(f"--input.splits={options.splits}: {count} {sentence}.")
    return np.array([NAMES.index(known) if known else _FREE for known in place], np.int64)


def _intervals(shares: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Returns where each split lies on the line from 0 to 1."""
    ends = np.cumsum([shares[part] for part in _ON_THE_LINE]) / sum(shares)
    return {part: (low, high) for part, low, high in zip(_ON_THE_LINE, [0.0, *ends[:-1]], ends, strict=True)}


def _by_threshold(line: np.ndarray, shares: Sequence[int]) -> np.ndarray:
    place = np.full(len(line), TRAIN, np.int64)
    for part, (low, high) in _intervals(shares).items():
        place[(low <= line) & (line < high)] = part
    return place


def _reach_every_split(
    place: np.ndarray,
    line: np.ndarray,
    units: np.ndarray,
    free: np.ndarray,
    labels: np.ndarray,
    shares: Sequence[int],
    names: Sequence[str],
    classes: Sequence[str],
    options: Input,
    notes: list[str],
) -> None:
    """Moves the fewest units, each the nearest to its threshold, until every class is in every split with a share."""
    wanted = [part for part in range(3) if shares[part]]
    members: dict[int, list[int]] = defaultdict(list)  # class -> units
    inside: dict[int, list[int]] = defaultdict(list)  # unit -> classes
    for label, unit in sorted(set(zip(labels[free].tolist(), units.tolist(), strict=True))):
        members[label].append(unit)
        inside[unit].append(label)
    few = [(label, len(found)) for label, found in members.items() if len(found) < len(wanted)]
    if few:
        _raise_too_few(few, len(wanted), classes, options)
    count = {(label, part): 0 for label in members for part in range(3)}
    for unit, labels_of_unit in inside.items():
        for label in labels_of_unit:
            count[label, place[unit]] += 1
    first_name = dict(zip(units[::-1].tolist(), (names[k] for k in free[::-1]), strict=True))
    moved, stuck = [], []
    for label, found in members.items():
        for part in (p for p in wanted if not count[label, p]):
            low, high = _intervals(shares)[part]
            spare = [u for u in found if all(count[other, place[u]] > 1 for other in inside[u])]
            if not spare:
                stuck.append(f"{_called(label, classes)} in {NAMES[part]}")
                continue
            unit = min(spare, key=lambda u: (max(low - line[u], line[u] - high), line[u]))
            for other in inside[unit]:
                count[other, place[unit]] -= 1
                count[other, part] += 1
            moved.append(f"{first_name[unit]} from {NAMES[place[unit]]} to {NAMES[part]}")
            place[unit] = part
    if moved:
        notes.append(
            f"Moved so that every class is in every split: {_some(moved)}; when examples are added they may move back, "
            "which --input.splits with this run's splits.csv prevents."
        )
    if stuck:
        notes.append(
            f"No way was found to have every class in every split without tearing groups apart: no {_some(stuck)}."
        )


def _raise_too_few(few: list[tuple[int, int]], needed: int, classes: Sequence[str], options: Input) -> None:
    unit = "group" if options.group else "different example"
    counts = _some([f"{_called(label, classes)} has {count} {unit}{'s' * (count > 1)}" for label, count in few])
    raise UserError(
        f"--input.split={','.join(map(str, options.split))} needs at least {needed} {unit}{'s' * (needed > 1)} of each class, one for each "
        f"split, but {counts}; add examples, remove the class, or give a split 0 percent."
    )


def _check_train(
    place: np.ndarray, labels: np.ndarray, names: Sequence[str], classes: Sequence[str], options: Input
) -> None:
    trained = set(labels[place == TRAIN].tolist())
    for part in (VALIDATION, TEST):
        for k in np.flatnonzero(place == part).tolist():
            if labels[k] not in trained:
                raise UserError(
                    f"{_called(int(labels[k]), classes)} is in {NAMES[part]} ({names[k]}) but not in train"
                    + (f" with --input.splits={options.splits}" if options.splits else "")
                    + "; what was never trained cannot be recognised: add examples to train, or remove it."
                )
    if not trained:
        raise UserError("There is no example to train on; add some, or give train a larger share with --input.split.")


def _report_leaks(place: np.ndarray, keys: Sequence[bytes], digests: Sequence[bytes], notes: list[str]) -> None:
    """Counts test and validation examples that the data, a file or the groups have in train as well."""
    train = np.flatnonzero(place == TRAIN).tolist()
    groups, contents = {keys[k] for k in train}, {digests[k] for k in train}
    for part in (VALIDATION, TEST):
        count = sum(keys[k] in groups or digests[k] in contents for k in np.flatnonzero(place == part).tolist())
        if count:
            notes.append(f"{NAMES[part]} shares {count} of its examples with train (the same content or group).")


def _thin(
    place: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    digests: Sequence[bytes],
    classes: Sequence[str],
    options: Input,
    notes: list[str],
) -> np.ndarray:
    """Returns the training examples that `--input.examples_per_class` leaves out; a larger number keeps a superset."""
    wanted = options.examples_per_class
    left_out: list[int] = []
    fewer = []
    train = np.flatnonzero(place == TRAIN)
    for label in np.unique(labels[train]) if wanted else ():
        members = train[labels[train] == label].tolist()
        members.sort(key=lambda k: (_position(digests[k], options.examples_seed, b"tfpt examples"), names[k]))
        left_out += members[wanted:]
        if len(members) < wanted:
            fewer.append(f"{_called(label, classes)} has {len(members)}")
    if fewer:
        notes.append(f"--input.examples_per_class={wanted}: {_some(fewer)} in train, all of them kept.")
    return np.array(sorted(left_out), np.int64)


def _called(label: int, classes: Sequence[str]) -> str:
    return f"the class {classes[label]}" if classes[label] else "the data"


def _some(parts: list[str]) -> str:
    """Returns a list in words, its first five."""
    return ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")

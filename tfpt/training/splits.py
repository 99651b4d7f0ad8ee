"""Train, validation and test: decided by a hash of the content, so that a new file moves no old one.

An example's place is a number in [0, 1) made of its content (or of its group) and the split seed. Test is what lies
below the test share, validation what comes next, train the rest. No random state is involved and no order matters.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from tfpt.config import Input
from tfpt.data import Index
from tfpt.errors import UserError
from tfpt.training.places import NAMES, TEST, TRAIN, VALIDATION, Held, Units, by_fold, by_shares, in_words
from tfpt.training.split_file import SplitFile, read_csv
from tfpt.training.thinning import beyond_limit, beyond_per_class

_FREE, _ASIDE = -1, -2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Which example is where: indices into the source, ascending, int64.

    Attributes:
        train: `[n]`, examples to train on.
        validation: `[n]`, examples for stopping, thresholds and choices.
        test: `[n]`, examples that only evaluation reads.
        left_out: for train, validation and test, `[n]` each: examples that belong there and are not used, because of
            `--input.examples_per_class`, `--input.limit` or `--input.folds`.
        notes: sentences for the user.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    left_out: tuple[np.ndarray, ...] = dataclasses.field(default_factory=lambda: (np.zeros(0, np.int64),) * 3)
    notes: tuple[str, ...] = ()


def split(index: Index, digests: Sequence[bytes], options: Input, *, classes: Sequence[str] = ()) -> Splits:
    """Splits a source as the flags of the group `input` say: by shares, folds or an earlier split, whole or thinned.

    What the data puts into a split stays there. The same content, or the same group, is always in one split. With folds,
    test is one of them and the rest is divided as train and validation are to each other; what the data gives as test takes no
    part, since each fold would be chosen by it.

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
    keys = _keys(index, digests, options.group, notes)
    held = Held.of(index, classes)
    if options.splits:
        place = _pinned(read_csv(options.splits), index.names, digests, keys, options, notes)
        shares = options.split
    else:
        place, shares = _given(index.splits, options.split, [] if options.folds else notes)
    aside = np.flatnonzero(place == TEST) if options.folds else np.zeros(0, np.int64)
    if len(aside):
        notes.append(f"--input.folds={options.folds}: the data's own test split, {len(aside)} examples, takes no part.")
    free = np.flatnonzero(place == _FREE)
    numbers: dict[bytes, int] = {}
    units = np.array([numbers.setdefault(keys[k], len(numbers)) for k in free], np.int64)
    names = dict(zip(units[::-1].tolist(), (index.names[k] for k in free[::-1]), strict=True))
    free_units = Units(
        line=np.array([_position(key, options.split_seed, b"tfpt split") for key in numbers]),
        second_line=np.array([_position(key, options.split_seed, b"tfpt fold") for key in numbers]),
        classes=held.of_units(free, units),
        names=names,
    )
    unit_place = (by_fold if options.folds else by_shares)(free_units, shares, held, options, notes)
    place[free] = unit_place[units]
    place[aside] = _ASIDE
    _check_train(place, held, index.names, options)
    _report_leaks(place, keys, digests, notes)
    parts, left_out = _thinned(place, held, index.names, digests, options, notes)
    return Splits(**dict(zip(NAMES, parts, strict=True)), left_out=_also(left_out, TEST, aside), notes=tuple(notes))


def _thinned(
    place: np.ndarray,
    held: Held,
    names: Sequence[str],
    digests: Sequence[bytes],
    options: Input,
    notes: list[str],
) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    """Returns what is kept and what is left out of train, validation and test."""

    def position(k: int) -> tuple[float, str]:
        return _position(digests[k], options.examples_seed, b"tfpt examples"), names[k]

    whole = [np.flatnonzero(place == part) for part in range(3)]
    left_out, fewer = beyond_per_class(whole[TRAIN], held.labels, position, options.examples_per_class)
    if fewer:
        said = in_words([f"{held.called(label)} has {count}" for label, count in fewer.items()])
        notes.append(f"--input.examples_per_class={options.examples_per_class}: {said} in train, all of them kept.")
    kept = [np.setdiff1d(whole[TRAIN], left_out), *whole[1:]]
    beyond = beyond_limit(kept, held.labels, position, options)
    if any(map(len, beyond)):
        total = sum(map(len, kept))
        notes.append(f"A first try: --input.limit={options.limit} of {total} examples; nothing here is a result.")
    kept = [np.setdiff1d(part, gone) for part, gone in zip(kept, beyond, strict=True)]
    return kept, (np.union1d(left_out, beyond[TRAIN]), beyond[VALIDATION], beyond[TEST])


def _also(parts: tuple[np.ndarray, ...], part: int, more: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.union1d(own, more) if k == part else own for k, own in enumerate(parts))


def _position(key: bytes, seed: int, purpose: bytes) -> float:
    """Returns a number in [0, 1) that only the key, the seed and the purpose decide (BLAKE2b, RFC 7693)."""
    salt = seed.to_bytes(16, "little", signed=True)
    value = hashlib.blake2b(key, digest_size=8, salt=salt, person=purpose).digest()
    return (int.from_bytes(value, "little") >> 11) / 2**53  # 53 bits: exact in a float, and never 1


def _keys(index: Index, digests: Sequence[bytes], group: str, notes: list[str]) -> list[bytes]:
    """Returns what must not be torn apart: the content hash, what the data keeps together, or what `--input.group` matches."""
    if not group:
        return list(digests) if index.together is None else _joined_by_content(index.together, digests)
    pattern = re.compile(group)
    keys = []
    for name in index.names:
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


def _check_train(place: np.ndarray, held: Held, names: Sequence[str], options: Input) -> None:
    example, label = held.pairs.T
    strict = np.array([held.must_be_everywhere(k) for k in range(len(held.names))])
    trained = np.unique(label[place[example] == TRAIN])
    for part in (VALIDATION, TEST):
        bad = np.flatnonzero((place[example] == part) & strict[label] & ~np.isin(label, trained))
        if len(bad):
            k = int(bad[0])
            raise UserError(
                f"{held.called(int(label[k]))} is in {NAMES[part]} ({names[example[k]]}) but not in train"
                + (f" with --input.splits={options.splits}" if options.splits else "")
                + "; what was never trained cannot be recognised: add examples to train, or remove it."
            )
    if not len(trained):
        raise UserError("There is no example to train on; add some, or give train a larger share with --input.split.")


def _report_leaks(place: np.ndarray, keys: Sequence[bytes], digests: Sequence[bytes], notes: list[str]) -> None:
    """Counts test and validation examples that the data, a file or the groups have in train as well."""
    train = np.flatnonzero(place == TRAIN).tolist()
    groups, contents = {keys[k] for k in train}, {digests[k] for k in train}
    for part in (VALIDATION, TEST):
        count = sum(keys[k] in groups or digests[k] in contents for k in np.flatnonzero(place == part).tolist())
        if count:
            notes.append(f"{NAMES[part]} shares {count} of its examples with train (the same content or group).")

"""Folds, limits and examples of several classes: each at most once, none torn apart, no class missing that need not be."""

import hashlib

import numpy as np
import pytest

from tfpt.config import Input
from tfpt.data import Index
from tfpt.errors import UserError
from tfpt.training.places import NAMES
from tfpt.training.split_file import read_csv, write_csv
from tfpt.training.splits import Splits, split


def source(contents, labels=None, *, held=None, names=None, splits=None) -> tuple[Index, list[bytes]]:
    """An index whose example k holds `contents[k]`."""
    names = [f"n{content}" for content in contents] if names is None else names
    labels = None if labels is None else np.array(labels, np.int64)
    index = Index(names=names, labels=labels, splits=splits or [""] * len(names), held=held)
    return index, [hashlib.blake2b(str(c).encode(), digest_size=16).digest() for c in contents]


def folds(index, digests, count=5, **options) -> list[Splits]:
    return [split(index, digests, Input(folds=count, fold=fold, **options)) for fold in range(count)]


def parts(found: Splits) -> list[np.ndarray]:
    return [found.train, found.validation, found.test, *found.left_out]


# several classes an example


def rare_classes(seed, examples=200):
    """Classes that 100 to 3 of 200 examples have."""
    random = np.random.default_rng(seed)
    held = np.zeros((examples, 6), bool)
    for k, count in enumerate((100, 60, 20, 8, 4, 3)):
        held[random.choice(examples, count, replace=False), k] = True
    return held, source(random.integers(0, 10**9, examples), held=held)


def test_every_class_of_examples_with_several_is_in_every_split():
    moved = 0
    for seed in range(60):
        held, (index, digests) = rare_classes(seed)
        found = split(index, digests, Input())
        for part in NAMES:
            assert held[getattr(found, part)].any(axis=0).all()
        by_hash = split(*source_without_classes(index, digests), Input())
        places, before = (np.zeros(200, int) for _ in range(2))
        for number, name in enumerate(NAMES):
            places[getattr(found, name)], before[getattr(by_hash, name)] = number, number
        assert np.count_nonzero(places != before) <= 6  # nothing moves without need
        moved += (places != before).any()
    assert moved > 30


def source_without_classes(index, digests):
    return Index(names=index.names, labels=None, splits=index.splits), digests


def test_a_class_of_one_or_two_examples_is_learned_before_it_is_measured():
    for seed in range(40):
        random = np.random.default_rng(seed)
        held = np.zeros((60, 2), bool)
        held[0, 0] = held[1:3, 1] = True
        index, digests = source(random.integers(0, 10**9, 60), held=held)
        found = split(index, digests, Input())
        assert held[found.train].any(axis=0).all()
        assert held[found.test, 1].any()


def test_new_examples_of_several_classes_move_no_old_one():
    for seed in range(20):
        random = np.random.default_rng(seed)
        held = random.random((300, 3)) < 0.3
        contents = random.choice(10**9, 300, replace=False)
        old = split(*source(contents[:200], held=held[:200]), Input())
        new = split(*source(contents, held=held), Input())
        for part in NAMES:
            assert set(getattr(old, part).tolist()) <= set(getattr(new, part).tolist())


# folds


def test_each_example_is_in_one_test_fold():
    for seed in range(10):
        random = np.random.default_rng(seed)
        contents = random.integers(0, 100, 150)  # with copies
        index, digests = source(contents, contents % 3, names=[str(k) for k in range(150)])
        found = folds(index, digests)
        np.testing.assert_array_equal(np.sort(np.concatenate([one.test for one in found])), np.arange(150))
        for one in found:
            np.testing.assert_array_equal(np.sort(np.concatenate(parts(one))), np.arange(150))
            for part in NAMES:
                assert set(contents[getattr(one, part)] % 3) == {0, 1, 2}
            places = [set(contents[getattr(one, part)]) for part in NAMES]
            assert not (places[0] & places[1] or places[0] & places[2] or places[1] & places[2])


def test_groups_stay_in_one_fold_and_shares_hold_for_the_rest():
    random = np.random.default_rng(0)
    patients = random.integers(0, 400, 4000)
    index, digests = source(range(4000), names=[f"p{p}_{k}" for k, p in enumerate(patients)])
    for one in folds(index, digests, group=r"^(p\d+)_", split=(60, 20, 20)):
        assert abs(len(one.test) / 4000 - 1 / 5) < 0.05
        assert abs(len(one.validation) / (4000 - len(one.test)) - 1 / 4) < 0.05
        groups = [set(patients[getattr(one, part)]) for part in NAMES]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_new_examples_change_no_fold_of_old_ones():
    old, new = folds(*source(range(300), [0] * 300)), folds(*source(range(400), [0] * 400))
    for before, after in zip(old, new, strict=True):
        assert set(before.test.tolist()) == {k for k in after.test.tolist() if k < 300}


def test_small_classes_in_folds():
    for seed in range(30):
        labels = [0] * 40 + [1] * 5 + [2] * 2
        index, digests = source(np.random.default_rng(seed).integers(0, 10**9, 47), labels)
        found = folds(index, digests)
        assert all(np.isin([0, 1], np.array(labels)[one.test]).all() for one in found)
        assert all(np.isin([0, 1, 2], np.array(labels)[one.train]).all() for one in found)
        assert sum((np.array(labels)[one.test] == 2).any() for one in found) == 2
    with pytest.raises(UserError, match=r"--input\.folds=5 needs at least 2 .*the class 1 has 1 different example"):
        folds(*source(range(21), [0] * 20 + [1]))


def test_a_test_split_of_the_data_takes_no_part():
    given = ["train"] * 50 + ["test"] * 10
    found = folds(*source(range(60), [0] * 60, splits=given))
    np.testing.assert_array_equal(np.sort(np.concatenate([one.test for one in found])), np.arange(50))
    for one in found:
        np.testing.assert_array_equal(one.left_out[2], np.arange(50, 60))
        assert any("the data's own test split, 10 examples, takes no part" in note for note in one.notes)
        assert not any("taken out of train" in note for note in one.notes)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"folds": 1}, "folds: 1 is not at least 2"),
        ({"folds": 3, "fold": 3}, "fold: 3 is none of the folds, 0 to 2"),
        ({"fold": 0}, r"fold: 0 is none of the folds, since there is no --input\.folds"),
        ({"folds": 3, "splits": "a.csv"}, r"folds: --input\.splits gives another split"),
        ({"limit": -1}, "limit: -1 is negative"),
    ],
)
def test_flags_that_make_no_sense(options, problem):
    with pytest.raises(ValueError, match=problem):
        Input(**options)


# a limit


def test_a_limit_keeps_the_share_of_each_class_in_each_split():
    labels = np.array([0] * 800 + [1] * 180 + [2] * 20)
    index, digests = source(range(1000), labels)
    whole = split(index, digests, Input())
    seen: set[int] = set()
    for limit in (30, 100, 500):
        found = split(index, digests, Input(limit=limit))
        assert sum(len(getattr(found, part)) for part in NAMES) == limit
        np.testing.assert_array_equal(np.sort(np.concatenate(parts(found))), np.arange(1000))
        kept = set()
        for part in NAMES:
            own, all_of_it = getattr(found, part), getattr(whole, part)
            assert set(own) <= set(all_of_it)
            counts, all_counts = (np.bincount(labels[k], minlength=3) for k in (own, all_of_it))
            assert counts.min() >= 1
            np.testing.assert_allclose(counts, all_counts * limit / 1000, atol=5)
            kept |= set(own.tolist())
        assert seen <= kept
        seen = kept
        assert any(f"--input.limit={limit} of 1000 examples" in note for note in found.notes)
    assert split(index, digests, Input(limit=1000)).notes == whole.notes
    np.testing.assert_array_equal(split(index, digests, Input(limit=5000)).train, whole.train)
    with pytest.raises(UserError, match=r"--input\.limit=8 is too few .*at least 9"):
        split(index, digests, Input(limit=8))


def test_a_limit_comes_after_examples_per_class():
    index, digests = source(range(300), [k % 3 for k in range(300)])
    found = split(index, digests, Input(limit=60, examples_per_class=20))
    assert sum(len(getattr(found, part)) for part in NAMES) == 60
    thin = split(index, digests, Input(examples_per_class=20))
    assert set(found.train) < set(thin.train)


def test_splits_csv_knows_where_left_out_examples_belong(tmp_path):
    index, digests = source(range(100), [k % 2 for k in range(100)])
    limited = split(index, digests, Input(limit=20))
    write_csv(tmp_path / "s.csv", index, digests, limited)
    whole, known = split(index, digests, Input()), read_csv(str(tmp_path / "s.csv")).by_name
    for part in NAMES:
        assert all(known[index.names[k]] == part for k in getattr(whole, part))
    again = split(index, digests, Input(splits=str(tmp_path / "s.csv"), limit=20))
    np.testing.assert_array_equal(again.test, limited.test)

"""Splits are stable, whole, and in every class; splits.csv gives them back."""

import hashlib
import os

import numpy as np
import pytest

from tfpt.config import Input
from tfpt.data import Index
from tfpt.errors import UserError
from tfpt.training.split_file import write_csv
from tfpt.training.splits import NAMES, Splits, split


def digest(content) -> bytes:
    return hashlib.blake2b(str(content).encode(), digest_size=16).digest()


def source(contents, labels=None, names=None, splits=None) -> tuple[Index, list[bytes]]:
    """An index whose example k holds `contents[k]`."""
    names = [f"n{content}" for content in contents] if names is None else names
    labels = None if labels is None else np.array(labels, np.int64)
    return Index(names=names, labels=labels, splits=splits or [""] * len(names)), [digest(c) for c in contents]


def by_name(splits: Splits, index: Index) -> dict[str, str]:
    return {index.names[k]: part for part in NAMES for k in getattr(splits, part)}


def run(contents, labels=None, names=None, splits=None, *, classes=(), **options) -> tuple[Splits, dict[str, str]]:
    index, digests = source(contents, labels, names, splits)
    result = split(index, digests, Input(**options), classes=classes)
    return result, by_name(result, index)


def test_shares_of_10_000_examples():
    for shares in ((70, 15, 15), (80, 10, 10), (50, 20, 30), (90, 10, 0), (70, 0, 30)):
        result, _ = run(range(10_000), [k % 5 for k in range(10_000)], split=shares)
        for part, share in zip(NAMES, shares, strict=True):
            assert abs(len(getattr(result, part)) / 100 - share) < 1.5


def test_every_example_once_and_int64():
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(60, 300))
        result, places = run(rng.integers(0, 10**9, n), rng.integers(0, 3, n), names=[str(k) for k in range(n)])
        parts = [result.train, result.validation, result.test]
        assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
        assert len(places) == n


def test_adding_files_moves_no_old_one():
    rng = np.random.default_rng(1)
    for _ in range(20):
        old = rng.choice(10**6, 200, replace=False)
        new = np.setdiff1d(rng.choice(10**6, 150), old)
        both = rng.permutation(np.concatenate([old, new]))
        labels = {content: int(content) % 2 for content in both}
        first, before = run(old, [labels[c] for c in old])
        second, after = run(both, [labels[c] for c in both])
        assert not first.notes and not second.notes
        assert {name: after[name] for name in before} == before


def test_order_and_names_do_not_matter():
    contents = list(range(100))
    _, places = run(contents, [0] * 100)
    _, renamed = run(contents[::-1], [0] * 100, names=[f"m{c}" for c in contents[::-1]])
    assert {name.replace("m", "n"): part for name, part in renamed.items()} == places


def test_the_seed_gives_another_split_and_the_same_seed_the_same():
    contents, labels = range(300), [0] * 300
    assert run(contents, labels)[1] == run(contents, labels)[1]
    assert run(contents, labels)[1] != run(contents, labels, split_seed=1)[1]
    assert run(contents, labels, split_seed=-1)[1] != run(contents, labels, split_seed=1)[1]


def test_the_same_content_is_in_one_split_whatever_its_class():
    rng = np.random.default_rng(2)
    contents = rng.integers(0, 100, 400)
    _, places = run(contents, rng.integers(0, 2, 400), names=[f"{k}-{c}" for k, c in enumerate(contents)])
    seen = {}
    for name, part in places.items():
        assert seen.setdefault(name.split("-")[1], part) == part


def test_groups_never_straddle():
    rng = np.random.default_rng(3)
    for seed in range(10):
        patients = rng.integers(0, 30, 300)
        names = [f"patient{p}_{k}.png" for k, p in enumerate(patients)]
        result, places = run(range(300), rng.integers(0, 2, 300), names=names, group=r"^(patient\d+)_", split_seed=seed)
        seen = {}
        for name, part in places.items():
            assert seen.setdefault(name.split("_")[0], part) == part
        assert set(seen.values()) == set(NAMES)
        assert any("makes 30 groups of 300" in note for note in result.notes)


def test_what_the_data_keeps_together_never_straddles():
    names = [f"question {k}" for k in range(200)]
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    together = [f"text {k // 10}".encode() for k in range(200)]
    found = split(Index(names=names, labels=None, splits=[""] * 200, together=together), digests, Input())
    sides = [{together[k] for k in getattr(found, name)} for name in NAMES]
    assert all(map(len, sides)) and sum(map(len, sides)) == 20
    pattern = Input(group=r"(\d)$")
    found = split(Index(names=names, labels=None, splits=[""] * 200, together=together), digests, pattern)
    assert sum(len({names[k][-1] for k in getattr(found, name)}) for name in NAMES) == 10


def test_groups_that_share_a_content_are_one():
    for seed in range(20):
        contents = [f"x{k}" for k in range(60)] + ["x0"]  # the first group's first content again, in the last group
        names = [f"g{k // 3}_{k}" for k in range(60)] + ["g19_60"]
        _, places = run(contents, names=names, group="^(g\\d+)_", split_seed=seed)
        assert {places[f"g{g}_{k}"] for g, k in ((0, 0), (0, 1), (19, 57), (19, 60))} == {places["g0_0"]}


def test_group_without_brackets_is_the_whole_match():
    names = [f"patient{k % 10}_{k}" for k in range(100)]
    options = {"names": names, "labels": [0] * 100}
    assert (
        run(range(100), group=r"^patient\d+_", **options)[1] == run(range(100), group=r"^(patient\d+_)", **options)[1]
    )


@pytest.mark.parametrize("group", [r"^(patient\d+)", r"(\d*)$", "(x)?scan"])
def test_a_name_without_a_group_is_named(group):
    with pytest.raises(UserError, match=r"--input\.group=.*(patient1|scan_b)"):
        run(range(2), [0, 0], names=["patient1", "nscan_b"], group=group)


def test_tiny_classes_are_in_every_split():
    rng = np.random.default_rng(4)
    moved = 0
    for _ in range(100):
        sizes = rng.integers(3, 8, 6)
        labels = np.repeat(np.arange(6), sizes)
        contents = rng.integers(0, 10**9, len(labels))
        result, _ = run(contents, labels)
        for part in NAMES:
            assert set(labels[getattr(result, part)]) == set(range(6))
        moved += any("--input.splits" in note for note in result.notes)
    assert moved > 50


def test_moves_no_more_than_needed_and_says_which():
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(50):
        contents = [*rng.integers(0, 10**9, 200).tolist(), 1, 2, 3, 4]
        labels = [0] * 200 + [1] * 4
        without = run(contents[:200], labels[:200])[1]
        result, places = run(contents, labels, classes=("many", "few"))
        assert {name: places[name] for name in without} == without
        (note,) = result.notes
        assert note.startswith("Moved so that every class is in every split: n")
        seen += 1
    assert seen == 50


def test_moves_respect_groups_of_several_classes():
    # each patient has examples of two classes; no move may take a class away from where it was alone
    rng = np.random.default_rng(6)
    for seed in range(50):
        patients = np.repeat(np.arange(8), 4)
        labels = np.concatenate([rng.permutation([0, 1, 2])[[0, 0, 1, 1]] for _ in range(8)])
        names = [f"p{p}_{k}" for k, p in enumerate(patients)]
        try:
            result, places = run(range(32), labels, names=names, group=r"^(p\d+)_", split_seed=seed)
        except UserError as error:
            assert "at least 3 groups" in str(error) or "not in train" in str(error)
            continue
        seen = {}
        for name, part in places.items():
            assert seen.setdefault(name.split("_")[0], part) == part
        if not any("tearing groups apart" in note for note in result.notes):
            for part in NAMES:
                assert set(labels[getattr(result, part)]) == set(labels)


def test_too_few_examples_of_a_class():
    with pytest.raises(UserError, match=r"at least 3 .*the class cat has 2 different examples.*add examples"):
        run(range(12), [0] * 10 + [1] * 2, classes=("dog", "cat"))
    # copies are one example
    with pytest.raises(UserError, match=r"the class cat has 1 different example;"):
        run([*range(10), 10, 10, 10], [0] * 10 + [1] * 3, names=[str(k) for k in range(13)], classes=("dog", "cat"))
    with pytest.raises(UserError, match=r"the data has 2 different examples"):
        run(range(2))
    with pytest.raises(UserError, match=r"at least 3 .* has 1 different example and 3 more"):
        run(range(8), range(8), classes=tuple("abcdefgh"))
    result, _ = run(range(12), [0] * 10 + [1] * 2, split=(70, 30, 0))
    assert len(result.test) == 0 and set(result.train) | set(result.validation) == set(range(12))
    result, _ = run(range(3), [0, 0, 1], split=(100, 0, 0))
    assert len(result.train) == 3


def test_without_labels():
    result, _ = run(range(1000))
    assert 120 < len(result.test) < 180
    for seed in range(30):
        result, _ = run(range(3), split_seed=seed)
        assert len(result.train) == len(result.validation) == len(result.test) == 1


def test_splits_of_the_data_are_kept():
    given = ["train", "train", "validation", "test"] * 10
    result, places = run(range(40), [0] * 40, splits=given, split=(100, 0, 0))
    assert [places[f"n{k}"] for k in range(40)] == given
    assert not result.notes


def test_a_missing_split_is_taken_out_of_train():
    given = ["train"] * 2000 + ["test"] * 100
    result, places = run(range(2100), [0] * 2100, splits=given)
    assert all(places[f"n{k}"] == "test" for k in range(2000, 2100))
    assert len(result.test) == 100
    assert abs(len(result.validation) / 2000 - 15 / 85) < 0.03
    assert any("18 % as validation is taken out of train" in note for note in result.notes)
    # as strictly as without a split of the data
    _, more = run(range(2200), [0] * 2200, splits=[*given, *["train"] * 100])
    assert {name: more[name] for name in places} == places


def test_only_train_is_split_like_no_split_at_all():
    assert run(range(200), [0] * 200, splits=["train"] * 200)[1] == run(range(200), [0] * 200)[1]


def test_the_data_has_no_train():
    with pytest.raises(UserError, match="test and validation but no train"):
        run(range(4), [0] * 4, splits=["test", "validation"] * 2)


def test_a_label_that_train_lacks():
    with pytest.raises(UserError, match=r"the class bird is in test \(n9\) but not in train"):
        run(range(10), [0] * 9 + [1], splits=["train"] * 8 + ["validation", "test"], classes=("cat", "bird"))


def test_copies_across_given_splits_are_counted():
    contents = [*range(10), 0, 1, 20]
    given = ["train"] * 10 + ["test"] * 3
    result, _ = run(contents, [0] * 13, names=[str(k) for k in range(13)], splits=given, split=(70, 0, 30))
    assert any(note.startswith("test shares 2 of its examples with train") for note in result.notes)


def test_thinning_leaves_validation_and_test_whole():
    contents, labels = range(600), [k % 3 for k in range(600)]
    full, _ = run(contents, labels)
    previous: set[int] = set()
    for count in (5, 20, 50):
        thin, _ = run(contents, labels, examples_per_class=count)
        np.testing.assert_array_equal(thin.validation, full.validation)
        np.testing.assert_array_equal(thin.test, full.test)
        assert np.bincount(np.array(labels)[thin.train]).tolist() == [count] * 3
        assert set(thin.train) | set(thin.left_out[0]) == set(full.train)
        assert previous < set(thin.train)
        previous = set(thin.train)
    other, _ = run(contents, labels, examples_per_class=50, examples_seed=1)
    assert set(other.train) != previous
    np.testing.assert_array_equal(other.test, full.test)


def test_thinning_more_than_there_is():
    full, _ = run(range(60), [0] * 50 + [1] * 10)
    thin, _ = run(range(60), [0] * 50 + [1] * 10, examples_per_class=20, classes=("cat", "dog"))
    dogs = int((full.train >= 50).sum())
    assert any(f"the class dog has {dogs} in train, all of them kept" in note for note in thin.notes)
    assert (thin.train >= 50).sum() == dogs and (thin.train < 50).sum() == 20


# splits.csv


@pytest.fixture
def written(tmp_path):
    """A file of 60 examples, its path and what it says."""
    names = [f'ca,t/{k} "ü" ö\udcfc.jpg' if k % 2 else f"dog/{k}\n.jpg" for k in range(60)]
    index, digests = source(range(60), [k % 2 for k in range(60)], names)
    result = split(index, digests, Input(split_seed=7))
    write_csv(tmp_path / "splits.csv", index, digests, result, ("dog", "ca,t"))
    return tmp_path / "splits.csv", index, digests, by_name(result, index)


def test_file_gives_the_split_back(written):
    path, index, digests, places = written
    again = split(index, digests, Input(splits=str(path)))
    assert by_name(again, index) == places
    assert not again.notes
    assert path.read_bytes().splitlines()[0] == b"name,class,split,digest"
    assert [p.name for p in path.parent.iterdir()] == ["splits.csv"]


def test_file_keeps_what_thinning_left_out(tmp_path):
    index, digests = source(range(60), [k % 2 for k in range(60)])
    thin = split(index, digests, Input(examples_per_class=3))
    write_csv(tmp_path / "s.csv", index, digests, thin)
    assert (tmp_path / "s.csv").read_text().count("left_out") == len(thin.left_out[0]) > 0
    full = split(index, digests, Input())
    again = split(index, digests, Input(splits=str(tmp_path / "s.csv")))
    np.testing.assert_array_equal(again.train, full.train)
    again = split(index, digests, Input(splits=str(tmp_path / "s.csv"), examples_per_class=3))
    np.testing.assert_array_equal(again.train, thin.train)


def test_file_finds_renamed_examples_and_splits_new_ones(written):
    path, index, digests, places = written
    names = [f"moved/{k}" for k in range(10)] + list(index.names[10:50]) + [f"new/{k}" for k in range(5)]
    contents = digests[:50] + [digest(f"new{k}") for k in range(5)]
    labels = np.array([k % 2 for k in range(55)], np.int64)
    moved = Index(names=names, labels=labels, splits=[""] * 55)
    result = split(moved, contents, Input(splits=str(path)))
    after = by_name(result, moved)
    assert [after[f"moved/{k}"] for k in range(10)] == [places[name] for name in index.names[:10]]
    assert [after[name] for name in index.names[10:50]] == [places[name] for name in index.names[10:50]]
    assert len(after) == 55
    notes = " ".join(result.notes)
    for text in (
        "10 found under another name",
        "10 of the file not in the data",
        "5 not in the file",
    ):
        assert text in notes


def test_file_keeps_groups_together(tmp_path):
    names = [f"p{k // 4}_{k}" for k in range(40)]
    index, digests = source(range(40), names=names)
    first = split(index, digests, Input(group=r"^(p\d+)_"))
    write_csv(tmp_path / "s.csv", index, digests, first)
    more, more_digests = source(range(50), names=names + [f"p{k}_new" for k in range(10)])
    result = split(more, more_digests, Input(group=r"^(p\d+)_", splits=str(tmp_path / "s.csv")))
    seen = {}
    for name, part in by_name(result, more).items():
        assert seen.setdefault(name.split("_")[0], part) == part


def test_file_with_name_and_split_alone_and_a_bom(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffsplit,name\r\ntrain,n0\r\ntest,n1\r\n", encoding="utf-8")
    index, digests = source(range(2), [0, 0])
    assert by_name(split(index, digests, Input(splits=str(path))), index) == {"n0": "train", "n1": "test"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name;split\nn0;train\n", "first line must be name,class,split,digest"),
        ("", "first line must be"),
        ("name,split\nn0,train\nn1,holdout\n", "line 3: split is 'holdout', not one of train, validation, test"),
        ("name,split\nn0,train\nn0,train\n", "line 3: n0 is there twice"),
        ("name,split,digest\nn0,train,xyz\n", "line 2: the digest is not hexadecimal"),
        ("name,split\nother,train\n", "none of its 1 examples is in the data"),
        ("name,split\nn0,train\nn1,test\n", "the class dog is in test .n1. but not in train with --input.splits"),
        ("name,split\nn0,test\nn1,test\n", "not in train"),
    ],
)
def test_file_that_makes_no_sense(tmp_path, text, sentence):
    path = tmp_path / "splits.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        split(*source(range(2), [0, 1]), Input(splits=str(path)), classes=("cat", "dog"))


def test_file_that_is_not_there(tmp_path):
    index, digests = source(range(3))
    with pytest.raises(UserError, match=r"--input\.splits=.*gone\.csv cannot be read: No such file"):
        split(index, digests, Input(splits=str(tmp_path / "gone.csv")))


def test_file_path_with_a_tilde(written, monkeypatch):
    path, index, digests, places = written
    monkeypatch.setitem(os.environ, "HOME", str(path.parent))
    assert by_name(split(index, digests, Input(splits="~/splits.csv")), index) == places

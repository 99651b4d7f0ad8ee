import os
import time

import numpy as np
import pytest

from tfpt.training import feature_store
from tfpt.training.feature_rows import Layout, Rows
from tfpt.training.feature_store import FeatureStore

LAYOUTS = [Layout((2,), np.dtype("float32")), Layout((None,), np.dtype("int32"))]
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)
WORDS = np.arange(4, dtype=np.int32)


def rows():
    return [Rows(LAYOUTS[0], VALUES, None), Rows(LAYOUTS[1], WORDS, np.array([1, 2, 1]))]


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def find(store, key="a", layouts=LAYOUTS, count=3, most=10**9):
    return store.find(key, layouts, count=count, most_in_memory=most)


def test_what_was_saved_is_found_in_memory_or_mapped(store):
    assert find(store) is None
    store.save("a", rows())
    for most, in_memory in ((10**9, True), (0, False)):
        values, words = find(store, most=most)
        assert values.in_memory == in_memory
        np.testing.assert_array_equal(values.read(np.arange(3)), VALUES)
        np.testing.assert_array_equal(words.read(np.array([1])), [[1, 2]])
    assert find(store, "b") is None
    assert find(store, count=4) is None
    assert find(store, layouts=LAYOUTS[:1]) is None


def test_an_entry_that_was_not_written_to_its_end_is_not_there(store):
    with pytest.raises(KeyboardInterrupt), store.writing("a", LAYOUTS, count=3, size=10) as recorders:
        recorders[0].add(VALUES)
        raise KeyboardInterrupt
    assert list(store.folder.iterdir()) == []
    assert find(store) is None


@pytest.mark.parametrize("damage", ["about.json", "0.values", "1.lengths.npy"])
def test_a_damaged_entry_is_not_used_and_can_be_replaced(store, damage):
    store.save("a", rows())
    file = store.folder / "a" / damage
    file.write_bytes(file.read_bytes()[:-3])
    assert find(store) is None
    store.save("a", rows())
    assert find(store) is not None


@pytest.mark.parametrize("damage", ["0.values", "1.values", "1.lengths.npy", "about.json"])
@pytest.mark.parametrize("spoilt", [lambda old: bytes(len(old)), lambda old: old[:-1] + b"\x07", lambda old: b""])
@pytest.mark.parametrize("most", [10**9, 0])
def test_an_entry_whose_bytes_have_changed_is_not_used(store, damage, spoilt, most):
    store.save("a", rows())
    file = store.folder / "a" / damage
    file.write_bytes(spoilt(file.read_bytes()))
    assert find(store, most=most) is None


def test_what_was_used_longest_ago_makes_room(store, monkeypatch):
    for age, key in ((300, "a"), (200, "b"), (100, "c")):
        store.save(key, rows())
        os.utime(store.folder / key, (time.time() - age,) * 2)
    assert find(store, "a") is not None  # used just now
    size = sum(file.stat().st_size for file in (store.folder / "a").iterdir())
    monkeypatch.setattr(feature_store, "MOST_BYTES", 3 * size)
    store.save("d", rows())
    assert {path.name for path in store.folder.iterdir()} == {"a", "c", "d"}


def test_what_a_killed_process_left_is_removed_after_a_day(store):
    store.save("a", rows())
    old, new = store.folder / ".partial-old", store.folder / ".partial-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    store.save("b", rows())
    assert (old.exists(), new.exists()) == (False, True)


def test_it_is_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "not there yet"))
    store = FeatureStore()
    assert store.folder == tmp_path / "not there yet" / "features"
    assert 0 < store.free() <= feature_store.MOST_BYTES

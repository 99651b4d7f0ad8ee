"""Several at a time, in order, and no more taken than worked on."""

import threading
import time

import pytest

from tfpt.training.side_by_side import side_by_side


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_items_come_in_order_with_what_was_made_of_them(at_a_time):
    def slowly(k):
        time.sleep(0.01 * (5 - k))
        return k * k

    assert list(side_by_side(slowly, range(5), at_a_time=at_a_time)) == [(k, k * k) for k in range(5)]


def test_so_many_run_at_once():
    together = threading.Barrier(3, timeout=10)
    assert len(list(side_by_side(lambda _: together.wait(), range(3), at_a_time=3))) == 3


def test_items_are_taken_as_they_are_needed():
    taken = []
    made = side_by_side(lambda k: k, (taken.append(k) or k for k in range(100)), at_a_time=2)
    next(made)
    assert len(taken) == 3


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_an_error_comes_where_it_belongs(at_a_time):
    seen = []
    with pytest.raises(ZeroDivisionError):
        for item, _ in side_by_side(lambda k: 1 // (3 - k), range(10), at_a_time=at_a_time):
            seen.append(item)
    assert seen == [0, 1, 2]

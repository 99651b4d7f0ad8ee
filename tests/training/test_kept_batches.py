"""Few batches are made once; many, or those of a pass that was left, each time."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.training.kept_batches import KeptBatches


class Counted:
    """Batches of 8 numbers, a text of 4 letters (28 bytes) and whether it could be read: 61 bytes each."""

    def __init__(self, *, unreadable=()):
        self.made = 0
        self.unreadable = unreadable

    def batches(self):
        def count(k):
            self.made += 1
            return k, [self.made not in self.unreadable]

        data = tf.data.Dataset.range(5).map(lambda k: tf.py_function(count, [k], (tf.int64, tf.bool)))
        return data.map(
            lambda k, ok: {"x": tf.fill([8], tf.cast(k, tf.float32)), "frame": tf.constant(["four"]), "ok": ok}
        )


@pytest.mark.parametrize(("most", "made"), [(305, 5), (304, 15), (0, 15)])
def test_batches_that_fit_are_made_once(most, made):
    counted = Counted()
    kept = KeptBatches(counted.batches(), most)
    for _ in range(3):
        np.testing.assert_array_equal([batch["x"][7] for batch in kept], range(5))
    assert counted.made == made


def test_a_pass_that_was_left_keeps_nothing():
    counted = Counted()
    kept = KeptBatches(counted.batches())
    assert float(next(iter(kept))["x"][0]) == 0.0
    assert len(list(kept)) == 5
    made = counted.made
    assert len(list(kept)) == 5
    assert counted.made == made >= 6


def test_what_could_not_be_read_is_read_again():
    counted = Counted(unreadable=[3])
    kept = KeptBatches(counted.batches())
    oks = [[bool(batch["ok"][0]) for batch in kept] for _ in range(3)]
    assert oks == [[True, True, False, True, True], [True] * 5, [True] * 5]
    assert counted.made == 10


def test_parts_of_ragged_tensors_count():
    ragged = tf.data.Dataset.from_tensors({"x": tf.ragged.constant([[1, 2], [3]]), "ok": tf.constant([True, True])})
    size = 3 * 4 + 3 * 8 + 2  # three numbers, three ends of rows, two examples
    for most, length in ((size, 1), (size - 1, None)):
        kept = KeptBatches(ragged, most)
        assert len(list(kept)) == 1
        assert (kept._kept and len(kept._kept)) == length

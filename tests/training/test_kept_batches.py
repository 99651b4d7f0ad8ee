"""Few batches are made once; many, or those of a pass that was left, each time."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.training.kept_batches import KeptBatches


class Counted:
    """Batches of 8 numbers and a text of 4 letters: 36 bytes each."""

    def __init__(self):
        self.made = 0

    def batches(self):
        def count(k):
            self.made += 1
            return k

        data = tf.data.Dataset.range(5).map(lambda k: tf.py_function(count, [k], tf.int64))
        return data.map(lambda k: {"x": tf.fill([8], tf.cast(k, tf.float32)), "frame": tf.constant(["four"])})


@pytest.mark.parametrize(("most", "made"), [(180, 5), (179, 15), (0, 15)])
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


def test_other_kinds_of_tensors_count_too():
    ragged = tf.data.Dataset.from_tensors(tf.ragged.constant([[1, 2], [3]]))
    kept = KeptBatches(ragged, 12 + 3 * 8)  # three numbers, three ends of rows
    assert kept._kept is None
    list(kept)
    assert len(kept._kept) == 1

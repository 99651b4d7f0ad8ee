"""Windows over long second texts."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.tasks._windows import Windows

BEGIN, AFTER = 3, 1


def rows(lengths, room):
    """Returns `second` and the numbers of the tokens, of pairs whose second texts have these lengths."""
    second = np.array([[BEGIN, length, room, AFTER] for length in lengths], np.int32)
    tokens = np.zeros((len(lengths), max(lengths) + BEGIN + AFTER), np.int32)
    for k, length in enumerate(lengths):
        tokens[k, : length + BEGIN + AFTER] = 100 + np.arange(length + BEGIN + AFTER)
    return tf.constant(second), tf.constant(tokens)


@pytest.mark.parametrize(("room", "overlap"), [(5, 2), (5, 0), (5, 99), (1, 3), (40, 10)])
def test_each_window_has_the_first_text_a_part_of_the_second_and_the_end(room, overlap):
    lengths = [0, 1, 4, 5, 6, 17, 23]
    second, tokens = rows(lengths, room)
    windows = Windows.of(second, overlap=overlap)
    taken = windows.take(tokens).numpy()
    shared = min(overlap, room // 2)
    for k, length in enumerate(lengths):
        there = windows.present[k].numpy()
        assert there.tolist() == sorted(there, reverse=True)
        starts = range(0, max(1, length - shared), room - shared)
        assert there.sum() == len(starts)
        assert not taken[k][~there].any() and not windows.inside[k].numpy()[~there].any()
        seen = set()
        for row, inside, start in zip(taken[k], windows.inside[k].numpy(), starts, strict=False):
            held = np.arange(start, min(start + room, length)) + BEGIN
            wanted = [*range(BEGIN), *held, length + BEGIN]
            assert row[: len(wanted)].tolist() == [100 + token for token in wanted]
            assert not row[len(wanted) :].any()
            assert np.flatnonzero(inside).tolist() == list(range(BEGIN, BEGIN + len(held)))
            seen |= set(held)
        assert seen == set(range(BEGIN, BEGIN + length))


def test_a_token_has_a_place_in_each_window_that_holds_it():
    second, _ = rows([12, 2], 5)
    windows = Windows.of(second, overlap=2)  # from 0, 3, 6 and 9
    token = tf.constant([BEGIN + 4, BEGIN + 1])
    assert windows.places(token).numpy().tolist() == [[BEGIN + 4, BEGIN + 1, -1, -1], [BEGIN + 1, -1, -1, -1]]
    assert (windows.places(tf.constant([2**31 - 1, -1])).numpy() == -1).all()


def test_an_example_that_could_not_be_read_is_one_empty_window():
    windows = Windows.of(tf.zeros([2, 4], tf.int32), overlap=3)
    assert windows.take(tf.zeros([2, 0, 2], tf.int32)).numpy().tolist() == [[[[0, 0]]]] * 2


def test_windows_are_the_same_in_a_graph_that_makes_their_measures():
    """TensorFlow 2.21 optimises one of two newaxis behind a stack away."""
    second, _ = rows([12, 2], 5)

    @tf.function(autograph=False)
    def source(*parts):
        return Windows.of(tf.stack(parts, axis=1), overlap=2).source

    np.testing.assert_array_equal(source(*tf.unstack(second, axis=1)), Windows.of(second, overlap=2).source)

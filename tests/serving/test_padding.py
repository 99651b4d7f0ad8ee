"""Answers of different lengths, one after the other."""

import numpy as np

from tfpt.serving.padding import concatenated, padded


def test_shorter_answers_get_zeros_and_empty_texts():
    numbers = concatenated([np.ones((1, 2), np.float32), np.zeros((0, 1), np.float32), np.ones((2, 3), np.float32)])
    assert numbers.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]] and numbers.dtype == np.float32
    objects = concatenated([np.array([[b"a"]], object), np.array([[b"b", b"c"]], object)])
    assert objects.tolist() == [[b"a", b""], [b"b", b"c"]]
    texts = concatenated([np.array([[b"a"]]), np.array([[b"long", b"c"]])])
    assert texts.tolist() == [[b"a", b""], [b"long", b"c"]]
    assert concatenated([np.zeros((2, 0, 3), int), np.ones((1, 2, 1), int)]).tolist() == [
        *[[[0, 0, 0], [0, 0, 0]]] * 2,
        [[1, 0, 0], [1, 0, 0]],
    ]


def test_answers_of_one_length_stay_what_they_are():
    values = np.arange(4.0)
    assert concatenated([values, values]).tolist() == [*range(4), *range(4)]
    assert padded(values, ()) is values

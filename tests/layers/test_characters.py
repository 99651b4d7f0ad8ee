"""Words, white space and punctuation of raw texts."""

import tensorflow as tf

from tfpt.layers.characters import Characters

TEXTS = ["", "Zoë  (of \t Köln)", b"\xff\xfe a", "a\0b …\u00a0"]
PIECES = [[], [(0, 3), (3, 6), (6, 7), (9, 16), (7, 9)], [(0, 2), (3, 4)], [(0, 3), (4, 5), (4, 6), (5, 6), (6, 6)]]
"""From the first character to the one after the last."""


def pieces(side):
    return tf.ragged.constant([[piece[side] for piece in row] for row in PIECES], tf.int32, ragged_rank=1)


def test_what_is_told_of_pieces():
    characters = Characters.of(tf.constant(TEXTS))
    starts, ends = characters.trimmed(pieces(0), pieces(1)), pieces(1)
    assert starts.to_list() == [[], [0, 5, 6, 11, 7], [0, 3], [0, 4, 4, 6, 6]]
    assert characters.words(starts, ends).to_list() == [[], [1, 3, 3, 5, 3], [1, 2], [1, 2, 2, 0, 0]]
    assert characters.punctuation(starts, ends).to_list() == [[], [0, 1, 0, 0, 0], [1, 0], [0, 1, 0, 0, 0]]
    assert characters.word_counts().numpy().tolist() == [0, 5, 2, 2]


def test_an_end_takes_the_combining_marks_behind_it():
    texts = ["cafe\u0301 ne\u0301e", "\u0301x", "नमस्ते^"]
    characters = Characters.of(tf.constant(texts))
    starts = tf.ragged.constant([[0, 6, 6], [1], [0, 0, 6]], tf.int32)
    ends = tf.ragged.constant([[4, 8, 6], [2], [4, 5, 7]], tf.int32)
    assert characters.completed(starts, ends).to_list() == [[5, 9, 6], [2], [4, 6, 7]]

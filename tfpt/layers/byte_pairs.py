"""Byte-level BPE tokens, as GPT-2 and RoBERTa read text, with TensorFlow ops.

Sennrich et al., 2016 (arXiv:1508.07909); on bytes: Radford et al., "Language Models are Unsupervised Multitask Learners",
2019. Merges are looked up by binary search in sorted constants, so there is no table that a SavedModel would have to track.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpt.layers.tokens import Tokens, characters_before, valid_utf8

_SPACE = r"\t\n\x0b\f\r\x{85}\p{Z}"
_WORD = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^{_SPACE}\p{{L}}\p{{N}}]+|[{_SPACE}]+"
"""GPT-2's words but for `\\s+(?!\\S)`, which RE2 cannot say: `_chunks` sees to it."""
_LONGEST_WORD = 512
"""Longer words are cut after so many bytes: the time of merging goes with the longest word."""
_NO_PAIR = np.int32(2**31 - 1)


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """Pairs of pieces merged in the order they were learned in.

    Attributes:
        vocabulary: piece of each id; bytes are written as GPT-2 does, a space as U+0120.
        merges: `left right`, in their order.
        prefix_space: whether a text is read as if a space stood before it.
    """

    vocabulary: tuple[str, ...]
    merges: tuple[str, ...]
    prefix_space: bool = False
    libraries: ClassVar[tuple[str, ...]] = ("tensorflow_text",)

    def tokenize(self, texts: tf.Tensor) -> Tokens:
        """Returns the pieces of texts, `[batch]` strings."""
        raw = valid_utf8(texts)
        texts = raw
        if self.prefix_space:
            missing = (tf.strings.substr(raw, 0, 1) != " ") & (raw != "")
            texts = tf.where(missing, tf.strings.join([" ", raw]), raw)
        added = tf.strings.length(texts) - tf.strings.length(raw)
        words = _words(texts)
        splits = words.row_splits
        data = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
        lengths = tf.strings.length(words.flat_values)
        byte = tf.range(tf.size(data))
        word = tf.searchsorted(tf.cumsum(lengths), byte, side="right")  # tf.repeat takes words times longest word
        within = byte - tf.gather(tf.cumsum(lengths, exclusive=True), word)
        # A part of a word that is too long has a number of its own.
        part = tf.cumsum(tf.cast((within == 0) | (within % _LONGEST_WORD == 0), tf.int32)) - 1
        ids, position = self._merged(tf.gather(tf.constant(self._tables.bytes), tf.cast(data, tf.int32)), part)
        text_of_word = tf.cast(words.value_rowids(), tf.int32)
        text = tf.gather(text_of_word, tf.gather(word, position))
        rows = tf.size(splits, out_type=tf.int32) - 1
        ends = tf.concat([position[1:], [tf.size(data)]], axis=0)[: tf.size(position)]
        begins_text = tf.cumsum(tf.strings.length(texts), exclusive=True)

        def ragged(values: tf.Tensor) -> tf.RaggedTensor:
            return tf.RaggedTensor.from_value_rowids(values, text, nrows=tf.cast(rows, text.dtype), validate=False)

        def characters(byte: tf.Tensor) -> tf.RaggedTensor:
            return characters_before(raw, ragged(tf.maximum(byte - tf.gather(begins_text + added, text), 0)))

        starts = characters(position + 1)  # the end of the first byte, which may be inside a character
        return Tokens(ragged(ids), starts.with_flat_values(tf.maximum(starts.flat_values - 1, 0)), characters(ends))

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "vocabulary": list(self.vocabulary),
            "merges": list(self.merges),
            "prefix_space": self.prefix_space,
        }

    def _merged(self, ids: tf.Tensor, word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Merges pairs until none is left.

        Args:
            ids: `[pieces]` int32.
            word: `[pieces]` int32, ascending: no merge goes over a word's end.

        Returns:
            The ids that are left and the position of each one's first byte.
        """
        keys, ranks, merged = (tf.constant(values) for values in self._tables.pairs)
        size = len(self.vocabulary)
        words = tf.reduce_max(tf.concat([word, [-1]], axis=0)) + 1

        def found(ids: tf.Tensor, word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            key = tf.cast(ids[:-1], tf.int64) * size + tf.cast(ids[1:], tf.int64)
            at = tf.minimum(tf.searchsorted(keys, key), len(self._tables.pairs[0]) - 1)
            is_pair = (tf.gather(keys, at) == key) & (word[:-1] == word[1:])
            return tf.where(is_pair, tf.gather(ranks, at), _NO_PAIR), tf.gather(merged, at)

        def step(ids: tf.Tensor, word: tf.Tensor, position: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rank, into = found(ids, word)
            best = tf.math.unsorted_segment_min(rank, word[:-1], words)
            chosen = (rank != _NO_PAIR) & (rank == tf.gather(best, word[:-1]))
            # Of pairs that overlap (a a a), every second one from the left.
            index = tf.range(tf.size(chosen))
            run = tf.where(chosen & ~tf.concat([[False], chosen[:-1]], axis=0)[: tf.size(chosen)])[:, 0]
            begin = tf.gather(
                tf.concat([[0], tf.cast(run, tf.int32)], axis=0),
                tf.searchsorted(tf.cast(run, tf.int32), index, side="right"),
            )
            # Equal ranks are equal pairs, so neighbours overlap only within a word and a run of one word.
            chosen &= (index - begin) % 2 == 0
            ids = tf.where(tf.concat([chosen, [False]], axis=0), tf.concat([into, [0]], axis=0), ids)
            kept = ~tf.concat([[False], chosen], axis=0)
            ids, word, position = (tf.boolean_mask(values, kept) for values in (ids, word, position))
            return ids, word, position, tf.reduce_any(chosen)

        def more(ids: tf.Tensor, word: tf.Tensor, position: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
            return changed & (tf.size(ids) > 1)

        if not self.merges:
            return ids, tf.range(tf.size(ids))
        start = (ids, word, tf.range(tf.size(ids)), tf.constant(True))
        shapes = (*[tf.TensorShape([None])] * 3, tf.TensorShape([]))
        ids, _, position, _ = tf.while_loop(more, step, start, shape_invariants=shapes)
        return ids, position

    @functools.cached_property
    def _tables(self) -> "_Tables":
        return _Tables.of(self.vocabulary, self.merges)


@dataclasses.dataclass(frozen=True)
class _Tables:
    bytes: np.ndarray
    """`[256]` int32: the id of each byte."""
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Pairs as `left * size + right`, ascending, their rank, and the id of what they merge into."""

    @classmethod
    def of(cls, vocabulary: tuple[str, ...], merges: tuple[str, ...]) -> "_Tables":
        ids: Mapping[str, int] = {piece: k for k, piece in enumerate(vocabulary)}
        rows = []
        for rank, merge in enumerate(merges):
            left, right = merge.split(" ")
            rows.append((ids[left] * len(vocabulary) + ids[right], rank, ids[left + right]))
        keys, ranks, merged = zip(*sorted(rows), strict=True) if rows else ((), (), ())
        return cls(
            np.array([ids.get(character, 0) for character in byte_characters()], np.int32),
            (np.array(keys, np.int64), np.array(ranks, np.int32), np.array(merged, np.int32)),
        )


def byte_characters() -> list[str]:
    """Returns the character that stands for each byte in a vocabulary: those that can be seen stand for themselves, the
    others for the characters from U+0100 on."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in seen else chr(next(others)) for byte in range(256)]


def _words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts into the words that no merge goes beyond; together they are the texts."""
    import tensorflow_text

    chunks = _chunks(tf.strings.regex_replace(texts, r"\x00", "\x01"))  # regex_split ends a text at a zero
    words = tensorflow_text.regex_split(chunks.flat_values, _WORD, _WORD)
    lengths = tf.reduce_sum(chunks.with_flat_values(words.row_lengths()), axis=1)
    return tf.RaggedTensor.from_row_lengths(words.flat_values, lengths, validate=False)


def _chunks(texts: tf.Tensor) -> tf.RaggedTensor:
    """Cuts texts before the last white space that something else follows, and after what follows it."""
    import tensorflow_text

    runs = tensorflow_text.regex_split(texts, f"[{_SPACE}]+", f"[{_SPACE}]+")
    text, runs = runs.value_rowids(), runs.flat_values
    followed = tf.concat([text[1:] == text[:-1], [False]], axis=0)[: tf.size(runs)]
    gives = followed & tf.strings.regex_full_match(runs, f"[{_SPACE}]+")
    spaces = tf.where(gives, runs, " ")
    length = tf.strings.length(spaces, unit="UTF8_CHAR")
    body = tf.strings.substr(spaces, tf.zeros_like(length), length - 1, unit="UTF8_CHAR")
    last = tf.where(gives, tf.strings.substr(spaces, -1, 1, unit="UTF8_CHAR"), "")
    before = tf.concat([[""], last], axis=0)[: tf.size(runs)]
    chunks = tf.strings.join([before, tf.where(gives, body, runs)])
    kept = chunks != ""
    return tf.RaggedTensor.from_value_rowids(
        tf.boolean_mask(chunks, kept), tf.boolean_mask(text, kept), nrows=tf.size(texts, out_type=tf.int64)
    )

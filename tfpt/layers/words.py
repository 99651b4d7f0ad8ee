"""Splits texts into words as BERT does: cleaned, perhaps lower-cased without accents, punctuation and ideographs apart.

The rules are those of google-research/bert, tokenization.py (BasicTokenizer): control characters vanish, white space
separates, each punctuation character and each Chinese character is a word, accents are what Unicode's NFD splits off as
nonspacing marks. They are applied character by character from tables made of Python's own Unicode data, so every
character of a word knows the character of the raw text that it came from.
"""

import dataclasses
import functools
import unicodedata

import numpy as np
import tensorflow as tf

_LAST = 0x110000
# The blocks of CJK ideographs that BasicTokenizer._is_chinese_char lists.
_IDEOGRAPHS = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F)),
)
_SPACE = 0x20


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of a batch of texts; characters are counted over the whole batch, white space left out.

    Attributes:
        words: `[batch, (words)]` strings, ragged.
        first: `[words + 1]` int32: the first character of each word, and the number of characters.
        byte: `[characters + 1]` int32: where each character begins in the concatenated words, in bytes, and their length.
        source: `[characters]` int32: the character of its raw text that each one comes from.
    """

    words: tf.RaggedTensor
    first: tf.Tensor
    byte: tf.Tensor
    source: tf.Tensor


def split_words(texts: tf.Tensor, *, lowercase: bool) -> Words:
    """Splits texts.

    Args:
        texts: `[batch]` strings; bytes that are no UTF-8 vanish.
        lowercase: whether letters lose case and accents.
    """
    raw = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    characters, origin = _replaced(raw.flat_values, lowercase=lowercase)
    text = tf.gather(raw.value_rowids(), origin)
    source = origin - tf.gather(tf.cast(raw.row_starts(), tf.int32), text)
    written = characters != _SPACE
    alone = _looked_up(_Ranges.constants(_alone()), characters) == 1
    follows_no_letter = tf.concat([[True], (alone | ~written)[:-1]], axis=0)
    other_text = tf.concat([[True], text[1:] != text[:-1]], axis=0)[: tf.shape(text)[0]]
    begins = tf.boolean_mask(alone | follows_no_letter[: tf.shape(text)[0]] | other_text, written)
    characters, source, text = (tf.boolean_mask(values, written) for values in (characters, source, text))
    first = tf.cast(tf.where(begins)[:, 0], tf.int32)
    per_text = tf.math.bincount(
        tf.cast(tf.gather(text, first), tf.int32), minlength=tf.size(texts), maxlength=tf.size(texts)
    )
    first = tf.concat([first, [tf.size(characters)]], axis=0)
    words = tf.strings.unicode_encode(tf.RaggedTensor.from_row_splits(characters, first, validate=False), "UTF-8")
    width = 1 + sum(tf.cast(characters >= bound, tf.int32) for bound in (0x80, 0x800, 0x10000))
    return Words(
        words=tf.RaggedTensor.from_row_lengths(words, per_text, validate=False),
        first=first,
        byte=tf.concat([[0], tf.cumsum(width)], axis=0),
        source=source,
    )


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the characters of changed texts come from.

    Attributes:
        character: `[characters]` int32: the character of its raw text that each one comes from, over the whole batch.
        first: `[batch]` int32: the first character of each text.
    """

    character: tf.Tensor
    first: tf.Tensor

    def spans(self, begin: tf.RaggedTensor, end: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Turns spans of changed texts into spans of raw ones, `[batch, (spans)]` int32 each."""
        first = tf.gather(self.first, begin.value_rowids())
        padded = tf.concat([self.character, [0]], axis=0)
        start = tf.gather(padded, first + begin.flat_values)
        last = tf.gather(padded, first + tf.maximum(begin.flat_values, end.flat_values - 1))
        stop = tf.where(end.flat_values > begin.flat_values, last + 1, start)
        return begin.with_flat_values(start), end.with_flat_values(stop)


def folded(texts: tf.Tensor) -> tuple[tf.Tensor, Source]:
    """Returns texts without case and accents, and where their characters come from.

    Args:
        texts: `[batch]` strings; bytes that are no UTF-8 become U+FFFD.
    """
    raw = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    characters, origin = _replaced(raw.flat_values, lowercase=True, clean=False)
    text = tf.gather(raw.value_rowids(), origin)
    changed = tf.RaggedTensor.from_value_rowids(characters, text, nrows=raw.nrows(), validate=False)
    source = origin - tf.gather(tf.cast(raw.row_starts(), tf.int32), text)
    return tf.strings.unicode_encode(changed, "UTF-8"), Source(source, tf.cast(changed.row_starts(), tf.int32))


def _replaced(characters: tf.Tensor, *, lowercase: bool, clean: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what characters become, and for each one the position of the character it comes from."""
    ranges, values = _replacements(lowercase, clean)
    found = _looked_up(_Ranges.constants(ranges), characters)
    # Found is 0 for what stays, else 1 + where its replacement begins; the replacement's length stands before it.
    changes = found > 0
    at = tf.maximum(found - 1, 0)
    table = tf.constant(values)
    length = tf.where(changes, tf.gather(table, at), 1)
    origin = tf.repeat(tf.range(tf.size(characters)), length)
    within = tf.range(tf.size(origin)) - tf.gather(tf.cumsum(length, exclusive=True), origin)
    replacement = tf.gather(table, tf.minimum(tf.gather(at, origin) + 1 + within, len(values) - 1))
    return tf.where(tf.gather(changes, origin), replacement, tf.gather(characters, origin)), origin


@dataclasses.dataclass(frozen=True)
class _Ranges:
    """A function of characters that is constant over ranges."""

    starts: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "_Ranges":
        changes = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        return cls(changes.astype(np.int32), values[changes].astype(np.int32))

    def constants(self) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.constant(self.starts), tf.constant(self.values)


def _looked_up(ranges: tuple[tf.Tensor, tf.Tensor], characters: tf.Tensor) -> tf.Tensor:
    starts, values = ranges
    return tf.gather(values, tf.searchsorted(starts, characters, side="right") - 1)


@functools.cache
def _replacements(lowercase: bool, clean: bool) -> tuple[_Ranges, np.ndarray]:
    """Returns 0 or 1 + an index for each character, and at the index the length of its replacement and that itself."""
    values: list[int] = [0, 1, _SPACE]  # nothing, and a space
    gone, space = 1, 2
    found = np.zeros(_LAST, np.int32)
    for code in range(_LAST):
        character = chr(code)
        category = unicodedata.category(character)
        if clean and (character in "\t\n\r" or category[0] == "Z"):
            found[code] = space
        elif clean and (code == 0xFFFD or category in ("Cc", "Cf", "Co", "Cs")):
            found[code] = gone
        elif lowercase and category[0] in "LMNSP":
            parts = [c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c) != "Mn"]
            lower = "".join(parts).lower()
            if lower != character:
                found[code] = gone if not lower else len(values) + 1
                if lower:
                    values += [len(lower), *map(ord, lower)]
    return _Ranges.of(found), np.array(values, np.int32)


@functools.cache
def _alone() -> _Ranges:
    """Returns 1 for the characters that are a word each."""
    found = np.zeros(_LAST, np.int32)
    for code in range(_LAST):
        if unicodedata.category(chr(code))[0] == "P":
            found[code] = 1
    for first, last in ((33, 47), (58, 64), (91, 96), (123, 126), *_IDEOGRAPHS):
        found[first : last + 1] = 1
    return _Ranges.of(found)

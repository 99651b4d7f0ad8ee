"""What stands where in raw texts: words between spaces, white space, punctuation, combining marks."""

import dataclasses

import tensorflow as tf

from tfpt.layers.tokens import valid_utf8

_MARK = r"[\p{P}\p{S}]"
_COMBINING = r"\p{M}"
_OTHER_SPACE = r"[\t\n\x0b\f\r\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]"


@dataclasses.dataclass(frozen=True)
class Characters:
    """The characters of a batch of texts, counted over the whole batch.

    Attributes:
        first: `[texts + 1]` int32: the first character of each text, and how many there are.
        spaces: `[characters + 1]` int32: how many ASCII spaces stand before each.
        marks: `[characters + 1]` int32: how many punctuation characters and symbols.
        written: `[characters + 1]` int32: the next one, itself included, that is no white space.
        base: `[characters + 1]` int32: likewise, that is no combining mark, such as a vowel sign or an accent of its own.
    """

    first: tf.Tensor
    spaces: tf.Tensor
    marks: tf.Tensor
    written: tf.Tensor
    base: tf.Tensor

    @classmethod
    def of(cls, texts: tf.Tensor) -> "Characters":
        """Reads texts, `[texts]` strings; bytes that are no UTF-8 do no harm."""
        # One character becomes one, so that positions stay what they are.
        plain = tf.strings.regex_replace(valid_utf8(texts), _MARK, "!")
        plain = tf.strings.regex_replace(plain, _OTHER_SPACE, "\t")
        plain = tf.strings.regex_replace(plain, _COMBINING, "^")  # every other ^ has become ! already
        decoded = tf.strings.unicode_decode(plain, "UTF-8", errors="replace")
        space, white = (decoded.flat_values == ord(c) for c in " \t")
        return cls(
            first=tf.cast(decoded.row_splits, tf.int32),
            spaces=_before(space),
            marks=_before(decoded.flat_values == ord("!")),
            written=_next(~(space | white)),
            base=_next(decoded.flat_values != ord("^")),
        )

    def trimmed(self, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the starts of pieces of the texts without the white space that they begin with.

        Args:
            starts: `[texts, (pieces)]` int32: the first character of each piece in its text.
            ends: likewise, the character after its last one.
        """
        first = tf.gather(self.first, starts.value_rowids())
        written = tf.gather(self.written, first + starts.flat_values) - first
        return starts.with_flat_values(tf.maximum(starts.flat_values, tf.minimum(written, ends.flat_values)))

    def completed(self, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the ends of trimmed pieces behind the combining marks that follow.

        Tokenizers leave out marks that they do not see: without this, a name's last letter would lose its accent.
        """
        row = starts.value_rowids()
        first, after = tf.gather(self.first, row), tf.gather(self.first, row + 1)
        complete = tf.minimum(tf.gather(self.base, first + ends.flat_values), after) - first
        return ends.with_flat_values(tf.where(ends.flat_values > starts.flat_values, complete, ends.flat_values))

    def words(self, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the number of the word, from 1, that each trimmed piece begins in; 0 where it is empty.

        Words are what one ASCII space separates; two spaces have an empty word between them.
        """
        first = tf.gather(self.first, starts.value_rowids())
        number = 1 + tf.gather(self.spaces, first + starts.flat_values) - tf.gather(self.spaces, first)
        return starts.with_flat_values(tf.where(ends.flat_values > starts.flat_values, number, 0))

    def punctuation(self, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns 1 for trimmed pieces that are all punctuation or symbols, else 0."""
        first = tf.gather(self.first, starts.value_rowids())
        start, end = first + starts.flat_values, first + ends.flat_values
        marks = tf.gather(self.marks, end) - tf.gather(self.marks, start)
        return starts.with_flat_values(tf.cast((marks == end - start) & (end > start), tf.int32))

    def word_counts(self) -> tf.Tensor:
        """Returns how many words each text has, `[texts]` int32; one without characters has none."""
        spaces = tf.gather(self.spaces, self.first)
        return tf.where(self.first[1:] > self.first[:-1], 1 + spaces[1:] - spaces[:-1], 0)


def _next(what: tf.Tensor) -> tf.Tensor:
    """Returns the next place, itself included, where a flag is set; behind the last one, how many flags there are."""
    places = tf.concat([tf.cast(tf.where(what)[:, 0], tf.int32), [tf.size(what)]], axis=0)
    return tf.gather(places, _before(what))


def _before(what: tf.Tensor) -> tf.Tensor:
    """Returns how many of the flags before each place are set, and how many in all."""
    return tf.concat([[0], tf.cumsum(tf.cast(what, tf.int32))], axis=0)

"""WordPiece tokens, as BERT reads text, with TensorFlow ops.

Wu et al., "Google's Neural Machine Translation System", 2016 (arXiv:1609.08144); the longest-match search is
tensorflow_text's (Song et al., "Fast WordPiece Tokenization", 2021, arXiv:2012.15524).
"""

import dataclasses
import functools
from typing import Any, ClassVar

import tensorflow as tf

from tfpt.layers.tokens import Tokens
from tfpt.layers.words import split_words

_LONGEST_WORD = 100
"""A longer word is unknown, as in google-research/bert, tokenization.py (WordpieceTokenizer)."""


@dataclasses.dataclass(frozen=True)
class WordPieces:
    """The longest pieces of a vocabulary that a word is made of, `##` before those inside.

    Names of special tokens in a text ([SEP]) are text like any other.

    Attributes:
        vocabulary: piece of each id.
        lowercase: whether letters lose case and accents.
        unknown: the piece for a word that cannot be made.
    """

    vocabulary: tuple[str, ...]
    lowercase: bool = True
    unknown: str = "[UNK]"
    libraries: ClassVar[tuple[str, ...]] = ("tensorflow_text",)

    def tokenize(self, texts: tf.Tensor) -> Tokens:
        """Returns the pieces of texts, `[batch]` strings."""
        split = split_words(texts, lowercase=self.lowercase)
        too_long = split.first[1:] - split.first[:-1] > _LONGEST_WORD
        words = tf.where(too_long, "\0", split.words.flat_values)
        pieces, starts, ends = self._search.tokenize_with_offsets(words)
        word = pieces.value_rowids()
        of_word = tf.gather(split.byte, split.first)  # in bytes
        # An unknown word reaches as far as the word does; the stand-in of a long one would not.
        first_byte, end_byte = tf.gather(of_word[:-1], word), tf.gather(of_word[1:], word)
        long = tf.gather(too_long, word)
        start = first_byte + tf.cast(starts.flat_values, tf.int32)
        end = tf.where(long, end_byte, first_byte + tf.cast(ends.flat_values, tf.int32))
        first = tf.gather(split.source, tf.searchsorted(split.byte, start, side="left"))
        last = tf.gather(split.source, tf.searchsorted(split.byte, end, side="left") - 1)
        per_text = tf.RaggedTensor.from_row_splits(pieces.row_lengths(), split.words.row_splits, validate=False)
        lengths = tf.reduce_sum(per_text, axis=1)
        return Tokens(
            *(
                tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
                for values in (pieces.flat_values, first, last + 1)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"vocabulary": list(self.vocabulary), "lowercase": self.lowercase, "unknown": self.unknown}

    @functools.cached_property
    def _search(self) -> Any:
        import tensorflow_text

        with tf.init_scope():  # made once, whichever graph asks first
            return tensorflow_text.FastWordpieceTokenizer(
                vocab=list(self.vocabulary),
                token_out_type=tf.int32,
                unknown_token=self.unknown,
                no_pretokenization=True,
                max_bytes_per_word=4 * _LONGEST_WORD,
            )

"""Words as numbers without a vocabulary: each word's hash."""

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from tfpt.layers.tokens import Tokens
from tfpt.layers.words import split_words


@dataclasses.dataclass(frozen=True)
class HashedWords:
    """Lower-cased words and punctuation, hashed; different words may share a number.

    Attributes:
        buckets: how many numbers there are.
        reserved: the numbers below this one are kept for special tokens.
    """

    buckets: int
    reserved: int = 0
    libraries: ClassVar[tuple[str, ...]] = ()

    def tokenize(self, texts: tf.Tensor) -> Tokens:
        """Returns the numbers of the words of texts, `[batch]` strings."""
        split = split_words(texts, lowercase=True)
        ids = tf.strings.to_hash_bucket_fast(split.words.flat_values, self.buckets - self.reserved)
        starts = tf.gather(split.source, split.first[:-1])
        ends = tf.gather(split.source, split.first[1:] - 1) + 1
        return Tokens(
            *(split.words.with_flat_values(v) for v in (tf.cast(ids, tf.int32) + self.reserved, starts, ends))
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)

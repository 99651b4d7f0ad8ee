"""What a tokenizer makes of a batch of texts, and what every tokenizer can do."""

import dataclasses
from typing import Any, ClassVar, Protocol

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens of a batch of texts.

    Attributes:
        ids: `[batch, (tokens)]` int32, ragged.
        starts: `[batch, (tokens)]` int32, ragged: the first character of each token in its raw text.
        ends: likewise, the character after its last one.
    """

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


class Tokenizer(Protocol):
    """A frozen dataclass that holds its vocabulary, and turns texts into tokens with stateless TensorFlow ops.

    Stateless means without lookup tables, which a SavedModel would have to track.
    """

    libraries: ClassVar[tuple[str, ...]]
    """Modules whose ops `tokenize` uses: whoever loads a bundle imports them first."""

    def tokenize(self, texts: tf.Tensor) -> Tokens:
        """Returns the tokens of texts, `[batch]` strings; bytes that are no UTF-8 do no harm."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain values."""
        ...


def valid_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts in which each sequence of bytes that is no UTF-8 has become U+FFFD."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def characters_before(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tf.RaggedTensor:
    """Turns byte offsets into character offsets.

    Args:
        texts: `[batch]` strings, valid UTF-8.
        offsets: `[batch, (tokens)]`, any integers: bytes from the text's beginning.

    Returns:
        `[batch, (tokens)]` int32.
    """
    data = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
    begins = tf.cast(tf.bitwise.bitwise_and(data, 0xC0) != 0x80, tf.int32)
    before = tf.concat([[0], tf.cumsum(begins)], axis=0)
    first = tf.cumsum(tf.strings.length(texts), exclusive=True)
    first_of_token = tf.gather(first, offsets.value_rowids())
    absolute = first_of_token + tf.cast(offsets.flat_values, tf.int32)
    return offsets.with_flat_values(tf.gather(before, absolute) - tf.gather(before, first_of_token))

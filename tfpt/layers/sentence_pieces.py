"""SentencePiece tokens with TensorFlow ops.

Kudo & Richardson, "SentencePiece", 2018 (arXiv:1808.06226).
"""

import base64
import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from tfpt.layers.tokens import Tokens, characters_before, valid_utf8
from tfpt.layers.words import folded


@dataclasses.dataclass(frozen=True)
class SentencePieces:
    """The pieces of a SentencePiece model.

    Attributes:
        model: the model file's content, in base64.
        shift: added to the model's ids; XLM-RoBERTa puts one special token before them.
        unknown: the id for what the model does not know; None: the model's own.
        lowercase: whether letters lose case and accents before the model sees them, as for ALBERT.
    """

    model: str
    shift: int = 0
    unknown: int | None = None
    lowercase: bool = False
    libraries: ClassVar[tuple[str, ...]] = ("tensorflow_text",)

    def tokenize(self, texts: tf.Tensor) -> Tokens:
        """Returns the pieces of texts, `[batch]` strings."""
        from tensorflow_text.python.ops import sentencepiece_tokenizer

        # The public class makes a resource that a SavedModel would have to track; the op inside the graph does not.
        ops = sentencepiece_tokenizer.gen_sentencepiece_tokenizer
        if self.lowercase:
            texts, source = folded(texts)
        else:
            texts = valid_utf8(texts)
        model = ops.sentencepiece_op(model=base64.b64decode(self.model))
        ids, splits, starts, ends = ops.sentencepiece_tokenize_with_offsets_op(
            model, texts, 0, 1.0, False, False, False, out_type=tf.int32
        )
        ragged = [tf.RaggedTensor.from_row_splits(v, splits, validate=False) for v in (ids, starts, ends)]
        if self.unknown is not None:
            ids = tf.where(ids == 0, self.unknown - self.shift, ids)
        begin, end = (characters_before(texts, offsets) for offsets in ragged[1:])
        if self.lowercase:
            begin, end = source.spans(begin, end)
        return Tokens(ragged[0].with_flat_values(ids + self.shift), begin, end)

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)

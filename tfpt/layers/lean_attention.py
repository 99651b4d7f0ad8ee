"""Attention in fewer operations than Keras': heads come first once, and a mask is added instead of chosen by, twice."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_PARTS = ("_compute_attention", "_masked_softmax", "_build_attention")
"""What a layer may have of its own that decides how it attends."""


def is_usual(layer: Any) -> bool:
    """Tells whether a layer attends as Keras' own with dropout does, between positions of a sequence."""
    own = keras.layers.MultiHeadAttention
    return (
        isinstance(layer, own)
        and all(getattr(type(layer), part) is getattr(own, part) for part in _PARTS)
        and not any(part in vars(layer) for part in _PARTS)
        and len(layer._attention_axes or ()) == 1
        and layer._dropout > 0.0
    )


def attention(layer: keras.layers.MultiHeadAttention) -> Callable[..., Any]:
    """Returns a layer's attention between heads (Vaswani et al., 2017)."""
    usual = layer._compute_attention

    def attended(
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        odd_mask = attention_mask is not None and len(attention_mask.shape) != 3
        if return_attention_scores or use_causal_mask or odd_mask or len(query.shape) != 4:
            return usual(
                query, key, value, attention_mask, training, return_attention_scores, use_causal_mask=use_causal_mask
            )
        query *= tf.cast(layer._inverse_sqrt_key_dim, query.dtype)
        query, key, value = (tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, value))
        scores = tf.matmul(query, key, transpose_b=True)
        if attention_mask is not None:
            mask = tf.convert_to_tensor(attention_mask)
            seen = mask if mask.dtype == tf.bool else mask > tf.cast(0.5, mask.dtype)
            low = -3e4 if scores.dtype == tf.float16 else -1e9
            scores += tf.where(seen, tf.zeros([], scores.dtype), tf.constant(low, scores.dtype))[:, None]
        shares = tf.nn.softmax(scores)
        made = tf.transpose(tf.matmul(layer._dropout_layer(shares, training=training), value), [0, 2, 1, 3])
        if attention_mask is not None:  # who sees nothing gets nothing, however long the padding
            sees = tf.reduce_any(seen, axis=-1)[..., None, None]
            made = tf.where(sees, made, tf.zeros([], made.dtype))
        return made, shares

    return attended

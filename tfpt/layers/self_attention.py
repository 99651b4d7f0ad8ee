"""Attention of a sequence to itself with one product for queries, keys and values, where Keras makes three."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def fits(layer: keras.layers.MultiHeadAttention) -> bool:
    """Tells whether a layer's queries, keys and values are of one size, over one axis, and nothing else happens to them."""
    projections = (layer.query_dense, layer.key_dense, layer.value_dense)
    return (
        len({tuple(dense.kernel.shape) for dense in projections}) == 1
        and all(dense.equation == "abc,cde->abde" for dense in projections)
        and tuple(layer.attention_axes) == (1,)
        and not layer._use_gate
        and not layer._flash_attention
        and not any(dense.quantization_mode for dense in projections)
    )


def self_attention(layer: keras.layers.MultiHeadAttention) -> Callable[..., Any]:
    """Returns a layer's call, the same function (Vaswani et al., 2017) in fewer operations; else, Keras' own.

    Args:
        layer: one that `fits`; what it says of masks, dropout and its output's product holds.
    """
    usual = layer.call
    projections = (layer.query_dense, layer.key_dense, layer.value_dense)

    def call(query: Any, value: Any, key: Any = None, **more: Any) -> Any:
        implicit = getattr(query, "_keras_mask", None) is not None
        if (
            value is not query
            or (key is not None and key is not query)
            or implicit
            or more.get("return_attention_scores")
        ):
            return usual(query, value, key=key, **more)
        width, heads, size = projections[0].kernel.shape
        kernel = tf.concat([tf.reshape(dense.kernel, [width, heads * size]) for dense in projections], axis=1)
        made = tf.reshape(query, [-1, width]) @ kernel
        if layer.use_bias:
            made = tf.nn.bias_add(made, tf.concat([tf.reshape(dense.bias, [-1]) for dense in projections], axis=0))
        shape = tf.shape(query)
        by_head = tf.transpose(tf.reshape(made, [shape[0], shape[1], 3, heads, size]), [2, 0, 3, 1, 4])
        queries, keys, values = tf.unstack(by_head)
        scores = tf.matmul(queries * tf.cast(size**-0.5, queries.dtype), keys, transpose_b=True)
        named = ("value_mask", "key_mask", "attention_mask", "use_causal_mask")
        mask = layer._compute_attention_mask(query, value, **{name: more[name] for name in named if name in more})
        if mask is not None:
            hidden = -3e4 if scores.dtype == tf.float16 else -1e9
            mask = mask[:, None] if len(mask.shape) == 3 else mask
            scores += (1.0 - tf.cast(mask, scores.dtype)) * tf.cast(hidden, scores.dtype)
        shares = tf.nn.softmax(scores)
        if layer.dropout:
            shares = layer._dropout_layer(shares, training=more.get("training"))
        return layer.output_dense(tf.transpose(shares @ values, [0, 2, 1, 3]))

    return call

"""The last block of a text network, computed for the first token alone where nothing else of it is read.

The first token's vector needs the keys and values of every token, but a query, a feed-forward part and normalisations of its own only:
of the block's products two twelfths stay, at KerasHub's usual width of the feed-forward part.
"""

from collections.abc import Callable
from typing import Any

import keras

from tfpt.layers.sequence_pooling import SequencePooling


def keep_first_token(network: keras.Model) -> keras.Model:
    """Returns the network up to `pooled`, without `sequence`, if that is its first token's vector; else the network as it is.

    Args:
        network: from a backbone, with the endpoint `pooled`. Its last block is changed in place, its weights and settings are not.
    """
    pooled = network.output["pooled"]
    pooling, node, _ = pooled._keras_history
    if type(pooling) is not SequencePooling or pooling.pooling != "cls":
        return network
    sequence = pooling._inbound_nodes[node].input_tensors[0]
    block = sequence._keras_history.operation
    called_once = len(block._inbound_nodes) == 1  # ALBERT's block is all of its blocks
    if not _is_kerashubs(block) or not called_once or "call" in vars(block):
        return network
    block.call = _first_token(block)
    return keras.Model(network.input, {"pooled": pooled}, name=network.name)


def _is_kerashubs(block: Any) -> bool:
    own = type(block)
    return own.__name__ == "TransformerEncoder" and own.__module__.startswith("keras_hub.")


def _first_token(block: Any) -> Callable[..., Any]:
    usual = block.call

    def call(
        inputs: Any,
        padding_mask: Any = None,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        if padding_mask is None or attention_mask is not None or return_attention_scores:
            return usual(inputs, padding_mask, attention_mask, training, return_attention_scores)
        first = inputs[:, :1]
        query, value = first, inputs
        if block.normalize_first:
            query, value = (block._self_attention_layer_norm(x) for x in (query, value))
        seen = keras.ops.cast(padding_mask, "bool")[:, None]
        x = block._self_attention_layer(query=query, value=value, attention_mask=seen, training=training)
        x = block._self_attention_dropout(x, training=training) + first
        if not block.normalize_first:
            x = block._self_attention_layer_norm(x)
        inner = block._feedforward_layer_norm(x) if block.normalize_first else x
        inner = block._feedforward_output_dense(block._feedforward_intermediate_dense(inner))
        x = block._feedforward_dropout(inner, training=training) + x
        return x if block.normalize_first else block._feedforward_layer_norm(x)

    return call

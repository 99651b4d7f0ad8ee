"""The device half of text preprocessing: compact tokens to the inputs that a network names."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfpt")
class TokenInputs(keras.layers.Layer):
    """Splits `[batch, length, 2]` int32 into ids, segments and mask.

    Position 0 holds id + 1 (0 is padding), position 1 the segment.

    Args:
        inputs: `ids`, `segments`, `mask` -> the network's name for it; the network is fed no others.
        padding: the id that stands where there is none.
    """

    def __init__(self, *, inputs: Mapping[str, str], padding: int = 0, name: str | None = None, **_: Any) -> None:
        super().__init__(name=name, dtype="float32", trainable=False, autocast=False)
        self.inputs_by_role = dict(inputs)
        self.padding = padding

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `[batch, length]` int32 each; length is at least 1, though all texts of a batch be missing."""
        tokens = tf.pad(inputs, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(inputs)[1])], [0, 0]])
        tokens = tf.ensure_shape(tokens, [None, inputs.shape[1] or None, 2])
        present = tokens[..., 0] > 0
        made = {
            "ids": tf.where(present, tokens[..., 0] - 1, self.padding),
            "segments": tokens[..., 1],
            "mask": tf.cast(present, tf.int32),
        }
        return {name: made[role] for role, name in self.inputs_by_role.items()}

    def compute_output_spec(self, inputs: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Returns the shapes of what `call` returns."""
        return {name: keras.KerasTensor(inputs.shape[:2], dtype="int32") for name in self.inputs_by_role.values()}

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {"name": self.name, "inputs": self.inputs_by_role, "padding": self.padding}

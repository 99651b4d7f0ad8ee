"""The device half of a text preprocessor that is a SavedModel: one compact tensor to the inputs that a network names."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfpt")
class StackedInputs(keras.layers.Layer):
    """Takes `[batch, length, inputs]` apart into `[batch, length]` each, by name."""

    def __init__(self, names: Sequence[str], *, name: str | None = None, **_: Any) -> None:
        super().__init__(name=name, dtype="float32", trainable=False, autocast=False)
        self.names = tuple(names)

    def call(self, inputs: Any) -> dict[str, Any]:
        """Returns the parts, in the dtype of the whole; length is at least 1, though all texts of a batch be missing."""
        rows = tf.pad(inputs, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(inputs)[1])], [0, 0]])
        rows = tf.ensure_shape(rows, [None, inputs.shape[1] or None, len(self.names)])
        return {name: rows[..., k] for k, name in enumerate(self.names)}

    def compute_output_spec(self, inputs: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Returns the shapes of what `call` returns."""
        return {name: keras.KerasTensor(inputs.shape[:2], dtype=inputs.dtype) for name in self.names}

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {"name": self.name, "names": list(self.names)}

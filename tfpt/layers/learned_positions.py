"""A vector for each place in a sequence, added to what stands there."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfpt")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector for each of up to `length` positions to `[batch, positions, width]`."""

    def __init__(self, length: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.length = length

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the table for sequences of this width."""
        self.table = self.add_weight(shape=(self.length, shape[-1]), initializer="random_uniform", name="table")

    def call(self, inputs: Any) -> Any:
        """Returns the sum, of the inputs' shape."""
        return inputs + ops.cast(self.table[: ops.shape(inputs)[1]], inputs.dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the inputs' shape."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {**super().get_config(), "length": self.length}

"""From the vectors of a sequence to one vector."""

from typing import Any

import keras
from keras import ops

POOLINGS = ("cls", "mean", "last")


@keras.saving.register_keras_serializable(package="tfpt")
class SequencePooling(keras.layers.Layer):
    """Takes the first vector of a sequence (`cls`), the mean over its tokens, or its last token's (`last`)."""

    def __init__(self, pooling: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling: {pooling} is not one of {', '.join(POOLINGS)}")
        self.pooling = pooling

    def call(self, sequence: Any, mask: Any) -> Any:
        """Pools.

        Args:
            sequence: `[batch, length, width]`.
            mask: `[batch, length]`, 0 where there is no token.

        Returns:
            `[batch, width]`; of a text without tokens, the mean is 0 and the last vector the first.
        """
        if self.pooling == "cls":
            return sequence[:, 0, :]
        if self.pooling == "mean":
            weight = ops.expand_dims(ops.cast(mask, "float32"), -1)  # lengths beyond 256 are not whole in bfloat16
            total = ops.sum(ops.cast(sequence, "float32") * weight, axis=1)
            return ops.cast(total / ops.maximum(ops.sum(weight, axis=1), 1.0), sequence.dtype)
        last = ops.maximum(ops.sum(ops.cast(mask, "int32"), axis=1) - 1, 0)
        return ops.squeeze(ops.take_along_axis(sequence, last[:, None, None], axis=1), axis=1)

    def compute_output_spec(self, sequence: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `[batch, width]`."""
        return keras.KerasTensor((sequence.shape[0], sequence.shape[-1]), dtype=sequence.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {**super().get_config(), "pooling": self.pooling}

"""Ids, segments and mask to compact tokens: the way back of `TokenInputs`."""

from typing import Any

import keras
from keras import ops

ROLES = ("ids", "segments", "mask")


@keras.saving.register_keras_serializable(package="tfpt")
class TokenRows(keras.layers.Layer):
    """Makes `[batch, length, 2]` int32 of `ids`, `segments` and `mask`: id + 1 (0 where there is no token), and segment."""

    def call(self, inputs: dict[str, Any]) -> Any:
        """Returns the compact tokens."""
        present = ops.where(inputs["mask"] > 0, inputs["ids"] + 1, 0)
        return ops.stack([present, inputs["segments"]], axis=-1)

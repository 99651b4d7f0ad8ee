"""The device half of image preprocessing: bytes to the range a network expects, always in float32."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfpt")
class PixelScale(keras.layers.Layer):
    """Computes `x * scale + offset` per channel, after an optional swap of RGB to BGR.

    It stays float32 under any precision policy: Keras' own Rescaling loses up to 0.3 of 255 under bfloat16.
    """

    def __init__(
        self, *, scale: Sequence[float], offset: Sequence[float], bgr: bool = False, name: str | None = None, **_: Any
    ) -> None:
        """Takes one scale and one offset a channel, in the order of the output's channels."""
        super().__init__(name=name, dtype="float32", trainable=False, autocast=False)
        self.scale = tuple(float(value) for value in scale)
        self.offset = tuple(float(value) for value in offset)
        self.bgr = bool(bgr)

    def call(self, inputs: "tf.Tensor") -> "tf.Tensor":
        """Scales pixels.

        Args:
            inputs: `[..., 3]`, any numeric dtype, 0 to 255.

        Returns:
            The same shape, float32.
        """
        values = keras.ops.cast(inputs, "float32")
        if self.bgr:
            values = keras.ops.flip(values, axis=-1)
        return values * keras.ops.array(self.scale, "float32") + keras.ops.array(self.offset, "float32")

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns a float32 tensor of the input's shape."""
        return keras.KerasTensor(inputs.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {"name": self.name, "scale": list(self.scale), "offset": list(self.offset), "bgr": self.bgr}

"""Windows of an example as examples of a batch, and back."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfpt")
class JoinWindows(keras.layers.Layer):
    """Makes `[batch * windows, places, depth]` of `[batch, windows, places, depth]`."""

    def call(self, inputs: Any) -> Any:
        """Returns the windows of all examples."""
        return tf.reshape(inputs, [-1, tf.shape(inputs)[2], inputs.shape[3]])

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape of what `call` returns."""
        return keras.KerasTensor((None, *inputs.shape[2:]), dtype=inputs.dtype)


@keras.saving.register_keras_serializable(package="tfpt")
class SplitWindows(keras.layers.Layer):
    """Makes `[batch, windows, places, depth]` of `[batch * windows, places, depth]`."""

    def call(self, joined: Any, inputs: Any) -> Any:
        """Returns the windows by example.

        Args:
            joined: what was made of the windows of all examples.
            inputs: what `JoinWindows` was called on.
        """
        batch, windows = tf.unstack(tf.shape(inputs)[:2])
        return tf.reshape(joined, [batch, windows, tf.shape(joined)[1], joined.shape[2]])

    def compute_output_spec(self, joined: keras.KerasTensor, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape of what `call` returns."""
        return keras.KerasTensor((*inputs.shape[:2], *joined.shape[1:]), dtype=joined.dtype)

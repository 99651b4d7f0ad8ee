"""A pretrained network with its preprocessor's device half in front, as one layer."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class Trunk(keras.layers.Layer):
    """From host outputs (uint8 pixels, token ids) to the network's endpoints in float32.

    The value range a network expects is settled inside, so a task, the served graph and whoever reuses the trunk feed it
    what the host half made. A trunk that is not trainable always runs in inference mode.

    Args:
        network: the backbone's network, from device outputs to a dictionary of endpoints.
        device: the preprocessor's device half.
        endpoints: the endpoints to return.
        shape: shape of one host output.
        dtype_in: dtype of one host output.
        name: of the layer.
        input_name: of its symbolic input; Keras wants a dictionary of inputs to have its keys as their names.
    """

    def __init__(
        self,
        network: keras.Model,
        device: keras.layers.Layer,
        *,
        endpoints: Sequence[str],
        shape: Sequence[int | None],
        dtype_in: str,
        name: str = "trunk",
        input_name: str = "inputs",
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.network = network
        self.device = device
        self.endpoints = tuple(endpoints)
        self.shape_in = tuple(shape)
        self.dtype_in = dtype_in
        self.input_name = input_name

    def host_input(self) -> keras.KerasTensor:
        """Returns a symbolic batch of host outputs, to build a model on."""
        return keras.Input(self.shape_in, dtype=self.dtype_in, name=self.input_name)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Returns the endpoints of a batch."""
        outputs = self.network(self.device(inputs), training=bool(training) and self.network.trainable)
        return {
            name: tf.nest.map_structure(lambda x: keras.ops.cast(x, "float32"), outputs[name])
            for name in self.endpoints
        }

    def clone(self, name: str) -> "Trunk":
        """Returns a copy with variables of its own and equal values: a momentum teacher, for one."""
        network = keras.models.clone_model(self.network)
        network.set_weights(self.network.get_weights())
        return Trunk(
            network, self.device, endpoints=self.endpoints, shape=self.shape_in, dtype_in=self.dtype_in, name=name
        )

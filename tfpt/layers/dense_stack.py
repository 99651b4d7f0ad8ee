"""Dense layers one after the other: the head that a checkpoint brings along."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

NAME = "checkpoint_head"
"""Layers are called `checkpoint_head_0`, `checkpoint_head_1`, ..."""


def activation(name: str) -> Callable[..., Any]:
    """Returns the function for `linear`, `relu`, `silu`, `tanh`, `gelu`, or `gelu_tanh`, its approximation by tanh."""
    import keras

    if name == "gelu_tanh":
        return gelu_tanh
    return keras.activations.get(name)


def gelu_tanh(x: Any) -> Any:
    """Returns GELU, approximated by tanh (Hendrycks & Gimpel, 2016, arXiv:1606.08415)."""
    import keras

    return keras.activations.gelu(x, approximate=True)


def dense_stack(x: Any, plan: Sequence[Mapping[str, Any]], *, dropout: float = 0.0) -> Any:
    """Returns a tensor after dense layers, in float32.

    Args:
        x: `[..., width]`, symbolic.
        plan: `units` and `activation` of each layer, from the first to the one that gives the logits.
        dropout: share that is dropped before each layer in training.
    """
    import keras

    for k, layer in enumerate(plan):
        if dropout:
            x = keras.layers.Dropout(dropout, dtype="float32", name=f"{NAME}_dropout_{k}")(x)
        made = keras.layers.Dense(
            layer["units"], activation=activation(layer["activation"]), dtype="float32", name=f"{NAME}_{k}"
        )
        x = made(x)
    return x


def load_dense_stack(model: "keras.Model", arrays: Sequence[tuple["np.ndarray", "np.ndarray"]]) -> None:
    """Assigns kernels and biases to the layers that `dense_stack` made in a model."""
    for k, (kernel, bias) in enumerate(arrays):
        model.get_layer(f"{NAME}_{k}").set_weights([kernel, bias])

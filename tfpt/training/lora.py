"""Low-rank adapters beside frozen kernels, for as long as a stage trains.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The layers are Keras' own: a kernel W becomes
W + A B, where A is random, B starts at zero, and the scale alpha / rank is 1.
"""

import re
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf

from tfpt.config import Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.layers.trunk import Trunk

_KERNELS = ("_kernel", "_embeddings")
"""Where a layer with `enable_lora` has what an adapter is added to."""


def targets(trunks: Mapping[str, Trunk], options: Train) -> list[keras.layers.Layer]:
    """Returns the layers that get an adapter.

    Raises:
        UserError: there is none.
    """
    able = [layer for trunk in trunks.values() for layer in _layers(trunk) if _kernel(layer) is not None]
    found = [layer for layer in able if re.search(options.lora_layers, layer.path)]
    if found:
        return found
    if not able:
        raise UserError(f"--train.lora_rank={options.lora_rank}: the backbone has no layer that can have an adapter.")
    raise UserError(
        f"--train.lora_layers={options.lora_layers}: no layer that can have an adapter matches; they are called "
        f"{able[len(able) // 2].path} and so on."
    )


def add(trunks: Mapping[str, Trunk], options: Train, *, console: Console) -> None:
    """Adds adapters, which change nothing before they train."""
    layers = targets(trunks, options)
    for layer in layers:
        layer.enable_lora(options.lora_rank)
    trained = sum(v.shape.num_elements() for layer in layers for v in adapters(layer))
    whole = sum(v.shape.num_elements() for trunk in trunks.values() for v in trunk.weights) - trained
    console.say(
        f"Adapters of rank {options.lora_rank} on {len(layers)} layers: {trained:,} parameters train beside the head's, and "
        f"{whole:,} of the backbone stay as they are ({trained / whole:.2%})."
    )


def adapters(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns A and B of a layer's adapter; nothing where it has none."""
    if not getattr(layer, "lora_enabled", False):
        return []
    names = ("lora_kernel", "lora_embeddings")
    return [getattr(layer, f"{name}_{part}") for name in names for part in "ab" if hasattr(layer, f"{name}_{part}")]


def train_adapters_alone(trunk: Trunk) -> None:
    """Freezes all variables of an unfrozen trunk but its adapters', until `merge`."""
    trained = {id(v) for layer in _layers(trunk) for v in adapters(layer)}
    for variable in trunk.network.weights:
        variable.trainable = id(variable) in trained


def merge(trunks: Mapping[str, Trunk]) -> None:
    """Adds each adapter to its kernel, in float32, and removes it: the layers are as they were made."""
    for trunk in trunks.values():
        if not any(adapters(layer) for layer in _layers(trunk)):
            continue
        for layer in _layers(trunk):
            for variable in layer._trainable_variables:
                variable.trainable = layer.trainable
            factors = adapters(layer)
            if not factors:
                continue
            a, b = factors
            kernel = _kernel(layer)
            assert kernel is not None
            kernel.assign_add(layer.lora_alpha / layer.lora_rank * keras.ops.matmul(a, b))
            layer.lora_enabled = False
            layer.lora_rank = layer.lora_alpha = None
            for name in [name for name, value in vars(layer).items() if any(value is factor for factor in factors)]:
                layer._untrack_variable(getattr(layer, name))
                # Keras' own __delattr__ collects garbage each time, which takes half a second.
                tf.__internal__.tracking.AutoTrackable.__delattr__(layer, name)


def _layers(trunk: Trunk) -> Iterator[keras.layers.Layer]:
    yield from trunk.network._flatten_layers(include_self=False, recursive=True)


def _kernel(layer: keras.layers.Layer) -> keras.Variable | None:
    if not hasattr(layer, "enable_lora") or not layer.weights:
        return None
    return next((getattr(layer, name) for name in _KERNELS if hasattr(layer, name)), None)

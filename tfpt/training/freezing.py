"""What trains: the unfreeze policy, batch normalisation's mode and momentum, and layer-wise rate groups."""

import re
from collections.abc import Iterator

import keras

from tfpt.config import Optim
from tfpt.errors import UserError
from tfpt.layers.hub_module import VariableScope
from tfpt.training import lora
from tfpt.training.assembly import Assembly
from tfpt.training.recipe import ADAPTERS
from tfpt.training.updates import RateGroup

SMALLEST_BATCH_FOR_STATISTICS = 16
"""Below this many examples on a device batch statistics are too noisy to train with (Wu & He, "Group Normalization", 2018,
figure 1: the error rises below 16)."""


def set_trainable(assembly: Assembly, *, unfreeze: str, train_batch_norm: bool) -> None:
    """Freezes and unfreezes the layers of the trunks.

    A frozen batch normalisation runs in inference mode; its scale and shift are frozen with its statistics.

    Args:
        assembly: the model.
        unfreeze: `none`, `all`, `last:N`, `regex:RE` or `adapters`; `gradual` ends with all.
        train_batch_norm: whether batch normalisation in unfrozen layers trains.

    Raises:
        UserError: the policy unfreezes nothing, or the trunk has fewer groups.
    """
    kind, _, argument = unfreeze.partition(":")
    for name, trunk in assembly.trunks.items():
        # Each by itself: a layer that already is what it is set to hands nothing on to the layers inside it.
        for layer in trunk.network._flatten_layers():
            layer.trainable = kind != "none"
        if kind == "none":
            continue
        leaves = list(_layers_with_variables(trunk.network))
        if kind == "last":
            groups = assembly.backbones[name].groups(trunk.network)
            if int(argument) > len(groups):
                raise UserError(
                    f"--train.unfreeze={unfreeze}: the backbone has {len(groups)} groups of layers; write last:N with N up to that, or all."
                )
            for group in groups[: -int(argument)]:
                for layer in group:
                    layer.trainable = False
        if kind == "regex":
            for layer in leaves:
                layer.trainable = any(re.search(argument, v.path) for v in layer.variables)
            if not any(layer.trainable for layer in leaves):
                example = leaves[len(leaves) // 2].variables[0].path
                raise UserError(
                    f"--train.unfreeze={unfreeze}: no variable matches; variables are called {example} and so on."
                )
        if not train_batch_norm or kind == ADAPTERS:
            for layer in leaves:
                if _normalises_batches(layer):
                    layer.trainable = False
        if kind == ADAPTERS:
            lora.train_adapters_alone(trunk)


def batch_norm_momenta(assembly: Assembly) -> list[tuple[keras.layers.Layer, float]]:
    """Returns the batch normalisation layers of the trunks with their momentum."""
    return [
        (layer, layer.momentum)
        for trunk in assembly.trunks.values()
        for layer in _layers_with_variables(trunk.network)
        if _normalises_batches(layer)
    ]


def fit_batch_norm_momentum(assembly: Assembly, *, steps: int) -> tuple[float, float] | None:
    """Gives trained batch normalisation a momentum that fits the number of steps.

    A momentum made for long training leaves the moving statistics behind the weights: 0.68 instead of 0.996 was measured
    on the digits after 234 steps at 0.99. The window of the average, 1 / (1 - momentum) updates, is made at most 1/25 of
    the stage, but no shorter than 10 updates.

    Returns:
        The smallest momentum before and after, or None when nothing changed.
    """
    bound = max(0.9, 1.0 - 25.0 / max(steps, 1))
    changed = [(layer, before) for layer, before in batch_norm_momenta(assembly) if layer.trainable and before > bound]
    for layer, _ in changed:
        layer.momentum = bound
    return (min(before for _, before in changed), bound) if changed else None


def rate_groups(assembly: Assembly, options: Optim, *, unfreeze: str, head_multiplier: float) -> list[RateGroup]:
    """Returns all variables that train, with their factors on the learning rate: the head's, then `layer_decay` once more
    for each group of layers further down."""
    kind, _, argument = unfreeze.partition(":")
    inside = {id(v) for trunk in assembly.trunks.values() for v in trunk.variables}
    head = tuple(v for v in assembly.model.trainable_variables if id(v) not in inside)
    by_multiplier: dict[float, list[keras.Variable]] = {head_multiplier: list(head)}
    for name, trunk in assembly.trunks.items():
        for depth, group in enumerate(reversed(assembly.backbones[name].groups(trunk.network))):
            variables = [v for layer in group for v in layer.trainable_variables]
            if kind == "regex":
                variables = [v for v in variables if re.search(argument, v.path)]
            by_multiplier.setdefault(options.layer_decay ** (depth + 1), []).extend(variables)
    tables = _embedding_tables(assembly.model) if options.lazy_embeddings else set()
    return [
        RateGroup(multiplier, tuple(variables), by_row=tuple(v for v in variables if id(v) in tables))
        for multiplier, variables in by_multiplier.items()
    ]


def _embedding_tables(model: keras.Model) -> set[int]:
    layers = (layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding))
    return {id(v) for layer in layers for v in layer.trainable_variables if len(v.shape) == 2}


def _normalises_batches(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer has moving statistics, with a momentum that can be set."""
    moves = isinstance(layer, VariableScope) and layer.momentum is not None
    return moves or isinstance(layer, keras.layers.BatchNormalization)


def _layers_with_variables(network: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in network._flatten_layers(include_self=False, recursive=True):
        if layer.variables and not any(
            inner.variables for inner in layer._flatten_layers(include_self=False, recursive=True)
        ):
            yield layer

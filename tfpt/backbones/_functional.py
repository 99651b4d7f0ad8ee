"""Reads the graph of a functional Keras model: where it narrows to one tensor, and which layers make a block.

Everything here looks at the nodes that the model itself holds. A layer's own inbound nodes also list the calls that
other models made with it, so they mislead once a second model shares the layer.
"""

import collections
import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_BLOCK = re.compile(
    r"stage_\d+_block_\d+"  # ConvNeXt
    r"|conv\d+_block\d+"  # ResNet, DenseNet
    r"|expanded_conv(?:_\d+)?(?=_)"  # MobileNetV2, MobileNetV3
    r"|(?<=conv_[dp]w_)\d+"  # MobileNet
    r"|block_?\d+[a-z]?(?:_\d+)?(?=_|$)"  # EfficientNet, VGG, Xception, MobileNetV2, InceptionResNetV2
)
_NORMALISATION = (
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "Normalization",
    "UnitNormalization",
)


def cuts(model: "keras.Model", output: Any) -> list["keras.layers.Layer"]:
    """Returns the layers, shallow to deep, through whose one output tensor every way from the input to `output` goes.

    Args:
        model: a functional model.
        output: one of its output tensors; its own layer and the input are not among the answers.
    """
    # A bare operation (an addition in MobileNetV3) narrows the graph too, but has no place in model.layers.
    return [operation for operation in _narrow(model, output) if hasattr(operation, "weights")]


def groups(model: "keras.Model", output: Any) -> list[list["keras.layers.Layer"]]:
    """Returns the layers with weights from shallow to deep, a block a group; each layer is in exactly one group.

    What lies between two cuts belongs together; so does what carries the name of the same block (`block3a_`), and a
    normalisation belongs to what it follows. Where a graph never narrows (NASNet), equal parts are taken in order.
    """
    ends = {id(operation) for operation in _narrow(model, output)}
    operations = {id(node.operation): node.operation for node in _nodes_in_order(model)}
    pieces: list[list[Any]] = [[]]
    for operation in operations.values():
        if getattr(operation, "weights", None):
            pieces[-1].append(operation)
        if id(operation) in ends and pieces[-1]:
            pieces.append([])
    most = max(16, sum(map(len, pieces)) // 4)
    merged: list[list[Any]] = []
    name = None
    for piece in filter(None, pieces):
        block = next(filter(None, map(_block, piece)), None)
        same_block = block is not None and block == name
        follows = block is None and _only_normalises(piece)
        if merged and (same_block or follows or _only_normalises(merged[-1])):
            merged[-1].extend(piece)
        elif len(piece) > most:
            part = math.ceil(len(piece) / 8)
            merged.extend(piece[k : k + part] for k in range(0, len(piece), part))
        else:
            merged.append(piece)
        name = name if follows else block
    return merged


def levels(model: "keras.Model", output: Any) -> list[Any]:
    """Returns feature maps, finest first: the last tensor of each stride 4, 8, 16, ... that every way to `output` crosses.

    Where a stride has no such tensor (NASNet), it is the last one in which ways meet.

    Args:
        model: a functional model from `[batch, side, side, 3]`, with a fixed side.
        output: its last feature map, `[batch, height, width, channels]`, which is the last level.
    """
    side = model.inputs[0].shape[1]
    joins = [node.outputs[0] for node in _nodes_towards(model, output) if len(node.input_tensors) > 1]
    narrow = [layer.output for layer in cuts(model, output) if type(layer).__name__ != "ZeroPadding2D"]
    by_stride: dict[int, Any] = {}
    for tensor in (*joins, *narrow, output):
        if len(tensor.shape) == 4 and tensor.shape[1]:
            by_stride[round(math.log2(side / tensor.shape[1]))] = tensor
    return [tensor for stride, tensor in sorted(by_stride.items()) if stride >= 2] or [output]


def _narrow(model: Any, output: Any) -> list[Any]:
    """Returns the operations whose one output is all that the rest of the way to `output` needs, shallow to deep."""
    nodes = _nodes_towards(model, output)
    waiting = {id(tensor): 0 for node in nodes for tensor in node.outputs}
    for tensor in itertools.chain.from_iterable(node.input_tensors for node in nodes):
        waiting[id(tensor)] += 1
    calls = collections.Counter(id(node.operation) for node in nodes)
    # In topological order, tensors that are made and still needed are the frontier. When it is the one tensor that was
    # just made, nothing passes it by.
    frontier: set[int] = set()
    found = []
    for node in nodes:
        for tensor in node.input_tensors:
            waiting[id(tensor)] -= 1
            if not waiting[id(tensor)]:
                frontier.discard(id(tensor))
        frontier.update(id(tensor) for tensor in node.outputs if waiting[id(tensor)])
        narrow = len(frontier) == 1 and len(node.outputs) == 1 and id(node.outputs[0]) in frontier
        if narrow and node.input_tensors and calls[id(node.operation)] == 1:
            found.append(node.operation)
    return found


def _only_normalises(layers: Sequence[Any]) -> bool:
    return all(type(layer).__name__ in _NORMALISATION for layer in layers)


def _block(layer: Any) -> str | None:
    found = _BLOCK.search(layer.name)
    return found.group() if found else None


def _nodes_in_order(model: Any) -> list[Any]:
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _nodes_towards(model: Any, output: Any) -> list[Any]:
    """Returns the model's nodes from which `output` is made, each after what it needs."""
    needed = {id(output)}
    nodes = []
    for node in reversed(_nodes_in_order(model)):
        if any(id(tensor) in needed for tensor in node.outputs):
            needed.update(id(tensor) for tensor in node.input_tensors)
            nodes.append(node)
    return nodes[::-1]

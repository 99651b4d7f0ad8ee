"""Counts the floating-point operations of an update, and knows what some devices could do at most.

What is counted is what Chowdhery et al., "PaLM", 2022 (section 4.1) divide by: products of matrices and convolutions,
forwards and backwards, two operations for each multiplication with its addition. All else is small beside them.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

TERA = 10**12
PEAKS: dict[str, tuple[float, float]] = {
    "H200": (989, 494),
    "H100 PCIe": (756, 378),
    "H100": (989, 494),
    "A100": (312, 156),
    "L40S": (362, 183),
    "L4": (121, 60),
    "A10": (125, 62.5),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71, 35.6),
    "V100": (125, 15.7),
    "T4": (65, 8.1),
    "TPU v6": (918, 0),
    "TPU v5p": (459, 0),
    "TPU v5 lite": (197, 0),
    "TPU v4": (275, 0),
}
"""10^12 operations a second of a device: in bfloat16 or float16, and in float32 (which TensorFlow computes as TF32 where the
GPU has it), from the makers' data sheets, without sparsity. Of two names that fit, the first counts; 0: not known."""


class UnknownShapeError(ValueError):
    """What a product takes cannot be counted."""


def peak(device: str, *, precision: str) -> float:
    """Returns how many operations a second a device could make; 0.0 where that is not known, as for CPUs.

    Args:
        device: its name, as TensorFlow tells it: `NVIDIA A100-SXM4-40GB`.
        precision: `float32`, `bfloat16` or `float16`.
    """
    words = device.replace("-", " ").split()
    for name, (half, full) in PEAKS.items():
        wanted = name.split()
        if any(words[k : k + len(wanted)] == wanted for k in range(len(words))):
            return TERA * (full if precision == "float32" else half)
    return 0.0


def count(function: Callable[..., Any], *specs: Any) -> int:
    """Returns the operations of a function for inputs of fixed shapes, which are traced and not computed.

    Args:
        function: of tensors.
        specs: nested `tf.TensorSpec`, an argument each.

    Raises:
        UnknownShapeError: a product has a shape that depends on the values.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return sum(map(_operations, _all_ops(traced.graph)))


def of_an_element(
    gradients: Callable[[dict[str, Any]], Any],
    spec: dict[str, Any],
    *,
    batch: int,
    length: int | None,
    replicas: int = 1,
) -> float:
    """Returns the operations of an update for each element of its first input; 0.0 where shapes are not known.

    Args:
        gradients: of a replica's batch; it is traced in the strategy that is active.
        spec: of a batch, as a dataset has it.
        batch: examples to trace it with.
        length: what stands for a length that varies: the count is about right then; None: none varies.
        replicas: of this process; each is traced with a batch of its own.
    """
    strategy = tf.distribute.get_strategy()
    given = {name: value for name, value in spec.items() if name not in ("example", "ok")}
    fixed = tf.nest.map_structure(
        lambda one: tf.TensorSpec([batch, *(d or length for d in one.shape[1:])], one.dtype), given
    )
    try:
        found = count(lambda values: strategy.run(gradients, args=(values,)), fixed)
    except UnknownShapeError:
        return 0.0
    return found / replicas / tf.nest.flatten(fixed["inputs"])[0].shape.num_elements()


def _all_ops(graph: Any) -> Iterator[tf.Operation]:
    """Yields the operations that a graph's outputs need, and those of the functions it calls; a loop's body counts once."""
    waiting = [tensor.op for tensor in graph.outputs]
    seen = set(waiting)
    while waiting:
        op = waiting.pop()
        before = {*(tensor.op for tensor in op.inputs), *op.control_inputs} - seen
        seen |= before
        waiting.extend(before)
        yield op
        for name in ("f", "then_branch", "else_branch", "body"):
            if name in op.node_def.attr and op.node_def.attr[name].func.name:
                found = graph._get_function(op.node_def.attr[name].func.name)
                if found is not None and found.graph is not None:
                    yield from _all_ops(found.graph)


def _operations(op: tf.Operation) -> int:
    counted = _COUNTED.get(op.type)
    return 2 * counted(op) if counted else 0


def _size(tensor: tf.Tensor) -> int:
    size = tensor.shape.num_elements()
    if size is None:
        raise UnknownShapeError(f"{tensor.name} has the shape {tensor.shape}")
    return int(size)


def _matmul(op: tf.Operation) -> int:
    transposed = any(op.node_def.attr[name].b for name in ("transpose_a", "adj_x"))
    _size(op.inputs[0])
    return _size(op.outputs[0]) * int(op.inputs[0].shape[-2 if transposed else -1])


def _einsum(op: tf.Operation) -> int:
    """The product of the sizes of all letters; those behind an ellipsis are in the larger of both inputs."""
    terms = op.get_attr("equation").decode().partition("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    beyond = 1
    for term, given in zip(terms, op.inputs, strict=True):
        _size(given)
        shape = given.shape.as_list()
        before, dots, after = term.partition("...")
        sizes |= dict(zip(before, shape, strict=False))
        sizes |= dict(zip(reversed(after), reversed(shape), strict=False))
        if dots:
            beyond = max(beyond, math.prod(shape[len(before) : len(shape) - len(after)]))
    return beyond * math.prod(sizes.values())


def _convolution(op: tf.Operation) -> int:
    """Each value of the output is made of a filter's window; a depthwise filter sees one channel."""
    return _size(op.outputs[0]) * _window(op.inputs[1], depthwise=op.type.startswith("Depthwise"))


def _input_gradient(op: tf.Operation) -> int:
    return _size(op.inputs[2]) * _window(op.inputs[1], depthwise=op.type.startswith("Depthwise"))


def _filter_gradient(op: tf.Operation) -> int:
    """The filter's shape is that of the result; each value of the output's gradient meets a window again."""
    return _size(op.inputs[2]) * _window(op.outputs[0], depthwise=op.type.startswith("Depthwise"))


def _window(kernel: tf.Tensor, *, depthwise: bool) -> int:
    _size(kernel)
    return math.prod(kernel.shape.as_list()[: -2 if depthwise else -1])


_COUNTED: dict[str, Callable[[tf.Operation], int]] = {
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "Einsum": _einsum,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "Conv2DBackpropInput": _input_gradient,
    "Conv3DBackpropInputV2": _input_gradient,
    "DepthwiseConv2dNativeBackpropInput": _input_gradient,
    "Conv2DBackpropFilter": _filter_gradient,
    "Conv3DBackpropFilterV2": _filter_gradient,
    "DepthwiseConv2dNativeBackpropFilter": _filter_gradient,
}

"""What computed features depend on, as one digest: contents, host half, augmentation, the graph up to the cut, its weights."""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.engines import _choice
from tfpt.preprocessors import Preprocessor

_FORMAT = 2
"""Another number forgets all entries of the store."""
_TFPT = Path(__file__).resolve().parents[1]
_NAMES = (
    "_class",
    "_gradient_op_type",
    "container",
    "shared_name",
    "_output_shapes",
    "_user_specified_name",
    "_tf_func_name",
)
"""Attributes of a node that name things and change nothing that it computes."""


def feature_key(
    *,
    digests: Sequence[bytes],
    preprocessors: Sequence[Preprocessor],
    graphs: Sequence[str],
    variables: Sequence[Any],
    ops: Sequence[Op],
    seed: int,
    views: int,
    examples: np.ndarray,
    engine: str,
) -> str:
    """Returns the name of an entry in the store.

    Args:
        digests: of the examples' contents, in their order.
        preprocessors: make the task's features of them.
        graphs: digests of the graphs between these and the features.
        variables: that the graphs read.
        ops: augmentation; empty: none.
        seed: of the augmentation.
        views: augmented views of each example.
        examples: their indices, which their random changes follow.
        engine: what computes, and in which precision.
    """
    weights = hashlib.blake2b(digest_size=16)
    for variable in variables:
        values = np.ascontiguousarray(variable.numpy())
        weights.update(f"{values.shape} {values.dtype.name};".encode())
        weights.update(values.reshape(-1).view(np.uint8).data)
    host = [[type(p).__module__, type(p).__qualname__, p.raw_features, p.to_json()] for p in preprocessors]
    order = hashlib.blake2b(np.ascontiguousarray(examples, "<i8").tobytes(), digest_size=16).hexdigest()
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "tensorflow": tf.__version__,
        "code": code_of([*preprocessors, *ops]),
        "examples": hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest(),
        "count": len(digests),
        "host": hashlib.blake2b(json.dumps(host, sort_keys=True, default=str).encode()).hexdigest(),
        "graphs": list(graphs),
        "weights": weights.hexdigest(),
        "augmentation": [[type(op).__module__, repr(op)] for op in ops] and [seed, views, order, repr(tuple(ops))],
        "engine": engine,
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def code_of(components: Sequence[Any]) -> str:
    """Returns a digest of the Python files beside which components are defined, and of tfpt's own that they build on."""
    folders = {_TFPT / room for room in ("preprocessors", "augment", "layers")}
    for component in components:
        file = getattr(sys.modules.get(type(component).__module__), "__file__", None)
        if file:  # a cell of a notebook has none
            folders.add(Path(file).resolve().parent)
    whole = hashlib.blake2b(digest_size=16)
    for folder in sorted(folders):
        for file in sorted(folder.glob("*.py")):
            whole.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traced:
    """A function's graph.

    Attributes:
        concrete: the function.
        digest: of the graph of its outputs, equal in every process, whatever names its nodes get.
        read: for each of the arguments' tensors, flattened, whether the outputs depend on it.
    """

    concrete: Any
    digest: str
    read: list[bool]

    @functools.cached_property
    def frozen(self) -> Any:
        """The function with its weights as constants."""
        return _choice.freeze(self.concrete)

    def forget_frozen(self) -> None:
        """Frees the memory of that; it is made anew where it is asked for again."""
        self.__dict__.pop("frozen", None)

    @classmethod
    def of(cls, function: Callable[..., Any], *specs: Any) -> "Traced":
        """Traces a function for arguments of these shapes and dtypes."""
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        there: set[str] = set()
        waiting = [tensor.op for tensor in concrete.outputs]
        while waiting:
            op = waiting.pop()
            if op.name not in there:
                there.add(op.name)
                waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
        given = concrete.inputs[: len(tf.nest.flatten(specs))]
        ends = [tensor.name for tensor in concrete.outputs]
        digest = digest_of(concrete.graph.as_graph_def(), there, ends)
        return cls(concrete=concrete, digest=digest, read=[tensor.op.name in there for tensor in given])


def digest_of(graph: Any, there: Collection[str], ends: Sequence[str]) -> str:
    """Returns a digest of a GraphDef: operations, attributes and wiring, but no names.

    Args:
        graph: the GraphDef.
        there: names of the nodes that count.
        ends: names of the tensors that come out.
    """
    functions = {one.signature.name: one for one in graph.library.function}
    known: dict[str, str] = {}

    def attribute(value: Any) -> str:
        kind = value.WhichOneof("value")
        if kind == "func":
            return f"{called(value.func.name)} {attributes(value.func.attr)}"
        if kind == "list" and value.list.func:
            return " ".join(called(one.name) for one in value.list.func)
        return hashlib.blake2b(value.SerializeToString(deterministic=True), digest_size=16).hexdigest()

    def attributes(values: Mapping[str, Any]) -> str:
        return " ".join(f"{name}={attribute(values[name])}" for name in sorted(values) if name not in _NAMES)

    def nodes(found: Sequence[Any], places: dict[str, str]) -> str:
        lines = []
        for number, node in enumerate(found):
            places[node.name] = str(number)
            wires = []
            for wire in node.input:
                source, *rest = wire.removeprefix("^").split(":")
                wires.append(":".join([places.get(source, source), *rest]) + ("^" if wire.startswith("^") else ""))
            lines.append(f"{called(node.op) if node.op in functions else node.op} {wires} {attributes(node.attr)}")
        return "\n".join(lines)

    def called(name: str) -> str:
        if name not in known and name in functions:
            known[name] = ""  # a function that calls itself
            one = functions[name]
            places = {argument.name: f"input{k}" for k, argument in enumerate(one.signature.input_arg)}
            body = nodes(one.node_def, places)
            returned = [one.ret[argument.name].split(":") for argument in one.signature.output_arg]
            ends = [":".join([places.get(source, source), *rest]) for source, *rest in returned]
            known[name] = hashlib.blake2b(f"{body} {ends}".encode(), digest_size=16).hexdigest()
        return known.get(name, name)

    places: dict[str, str] = {}
    body = nodes([node for node in graph.node if node.name in there], places)
    outputs = [":".join([places[name.split(":")[0]], name.split(":")[1]]) for name in ends]
    return hashlib.blake2b(f"{body} {outputs}".encode(), digest_size=16).hexdigest()

"""What a TF2 reusable SavedModel takes and gives, read from its graph alone: no weight is loaded, nothing of it runs.

The interface is https://www.tensorflow.org/hub/reusable_saved_models: the object can be called, and has `variables`,
`trainable_variables` and `regularization_losses`.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfpt.errors import UserError

_UNSAFE = re.compile(
    r"PyFunc|Dataset|Reader|^(Read|Write)File$|^MatchingFiles|^(Save|Restore|Merge.*Checkpoint|DTensorRestore)|^Debug|^Dump"
    r"|SummaryWriter|Summary(File|Db)|^Write.*Summary|Rpc"
)
"""Ops that run Python, or read and write files of their own choice. A vocabulary comes as an asset, which is none of them."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Shape and dtype; a shape begins with the batch dimension, None where a dimension varies or is not known."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signature:
    """What a module can be called with.

    Attributes:
        inputs: its first argument: a tensor, or tensors by name.
        outputs: by name, nested ones joined with `/`; `output` where there is only one tensor.
        methods: what else can be called on it, such as `tokenize`.
        libraries: modules beside TensorFlow whose ops it uses.
        parameters: how many numbers its variables hold.
    """

    inputs: Tensor | Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    methods: tuple[str, ...]
    libraries: tuple[str, ...]
    parameters: int


def read(folder: Path, *, flag: str, trust: bool = False) -> Signature:
    """Reads the signature of a module.

    Args:
        folder: holds saved_model.pb.
        flag: what the user wrote, for messages: `--backbone=tfhub:FOLDER`.
        trust: whether ops that run Python or touch files are allowed.

    Raises:
        UserError: it is no reusable TF2 SavedModel, or not a safe one.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    if not (folder / "saved_model.pb").is_file():
        if (folder / "tfhub_module.pb").is_file():
            raise _old(flag)
        raise UserError(f"{flag}: {folder} holds no saved_model.pb; name the folder of a TF2 SavedModel.")
    if (folder / "tfhub_module.pb").is_file():
        raise _old(flag)
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        (graph,) = saved.meta_graphs
    except (DecodeError, ValueError) as error:
        raise UserError(f"{flag}: {folder / 'saved_model.pb'} is damaged; fetch it again.") from error
    objects = graph.object_graph_def
    if not objects.nodes:
        raise _old(flag)
    children = {child.local_name: objects.nodes[child.node_id] for child in objects.nodes[0].children}
    methods = [name for name, node in children.items() if node.WhichOneof("kind") == "function"]
    traces = children["__call__"].function.concrete_functions if "__call__" in methods else ()
    if not traces:
        raise UserError(
            f"{flag}: this SavedModel can be served but not called, so it cannot be trained or built on (Keras' model.export "
            "writes such ones); take the model itself, saved as .keras, and --backbone=keras:FILE.keras."
        )
    ops = _ops(graph)
    unsafe = sorted(op for op in ops if _UNSAFE.search(op))
    if unsafe and not trust:
        raise UserError(
            f"{flag}: the module holds the operation {unsafe[0]}, which runs Python or touches files; add --backbone.trust=true "
            "if you trust who made it."
        )
    call = objects.concrete_functions[traces[0]]
    positional = _plain(call.canonicalized_input_signature)[0]
    variables = [node.variable for node in objects.nodes if node.WhichOneof("kind") == "variable"]
    inputs = positional[0] if positional else None
    if not isinstance(inputs, Tensor) and not (
        isinstance(inputs, dict) and inputs and all(isinstance(value, Tensor) for value in inputs.values())
    ):
        raise UserError(f"{flag}: the module's first argument is neither a tensor nor a dictionary of tensors.")
    return Signature(
        inputs=inputs,
        outputs=dict(_flat(_plain(call.output_signature))),
        methods=tuple(name for name in methods if name != "__call__"),
        libraries=("tensorflow_text",) if any(map(_is_foreign, ops)) else (),
        parameters=sum(math.prod(side.size for side in variable.shape.dim) for variable in variables),
    )


def _old(flag: str) -> UserError:
    return UserError(
        f"{flag}: this is a module in the format of TensorFlow 1, which cannot be trained in TensorFlow 2; take its TF2 version "
        "(https://www.tensorflow.org/hub/model_compatibility), or another backbone."
    )


def _ops(graph: Any) -> set[str]:
    """Returns the ops that calling the loaded object can reach; what saves and restores it is not among them."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    waiting = list(graph.object_graph_def.concrete_functions)
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            if node.op in library:
                waiting.append(node.op)
            elif node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"):
                found.add("WriteFile")
            else:
                found.add(node.op)
            for value in node.attr.values():
                waiting += [value.func.name, *(function.name for function in value.list.func)]
    return found


def _is_foreign(op: str) -> bool:
    import tensorflow as tf

    return not hasattr(tf.raw_ops, op) and not op.startswith(
        "Xla"
    )  # XLA's ops are TensorFlow's, but have no Python name


def _plain(value: Any) -> Any:
    """Returns what a StructuredValue says: tuples, lists and dictionaries of `Tensor`s and plain values."""
    kind = value.WhichOneof("kind")
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        import tensorflow as tf

        spec = getattr(value, kind)
        shape = tf.TensorShape(spec.shape)
        return Tensor(() if shape.rank is None else tuple(shape), tf.as_dtype(spec.dtype).name)
    if kind in ("tuple_value", "list_value"):
        return [_plain(item) for item in getattr(value, kind).values]
    if kind == "dict_value":
        return {key: _plain(item) for key, item in value.dict_value.fields.items()}
    if kind == "named_tuple_value":
        return {pair.key: _plain(pair.value) for pair in value.named_tuple_value.values}
    return None if kind in (None, "none_value") else getattr(value, kind)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path or "output", value
    elif isinstance(value, dict | list):
        for key, item in sorted(value.items()) if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{path}/{key}" if path else str(key))

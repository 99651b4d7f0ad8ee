"""Where the part of a trunk that nothing changes ends: what comes before is computed once, what comes after trains.

A tensor is still when no layer that trains lies between it and the input. The cut is the set of still tensors that a layer
that trains reads, or that the task reads; it may be several where branches pass it. Before the cut everything runs in
inference mode, dropout included: what is frozen is a fixed function of the example.
"""

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfpt.layers.trunk import Trunk
from tfpt.tasks import Task

_PROBE_BATCH, _PROBE_LENGTH = 3, 8
_BY_EXAMPLE: weakref.WeakKeyDictionary[keras.Model, dict[frozenset[int], bool]] = weakref.WeakKeyDictionary()
"""What `_by_example` has said of a network up to its tensors of these ids, which it holds as long as it lives: a run cuts it in the same
place more than once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """A trunk in two parts, which share its layers and variables.

    Attributes:
        trunk: the whole.
        before: from the network's input to the tensors at the cut, by name: `still0`, `still1`, ...
        after: from their list to the endpoints that are not among them, by name; None where everything is frozen.
    """

    trunk: Trunk
    before: keras.Model
    after: keras.Model | None
    _read: Any
    """The endpoints, each leaf as the name it has in `before` or in `after`."""

    def still(self, inputs: Any) -> dict[str, tf.Tensor]:
        """Returns the tensors at the cut for a batch of host outputs, in inference mode."""
        return self.before(self.trunk.device(inputs), training=False)

    def specs(self) -> dict[str, keras.KerasTensor]:
        """Returns shape and dtype of the tensors at the cut."""
        return dict(self.before.output)

    def endpoints(self, still: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Returns the trunk's endpoints, in float32."""
        values = dict(still)
        if self.after is not None:
            at_cut = [still[name] for name in self.before.output]
            values |= self.after(at_cut if len(at_cut) > 1 else at_cut[0], training=training)
        return tf.nest.map_structure(lambda name: keras.ops.cast(values[name], "float32"), dict(self._read))


class CutTrunk(keras.layers.Layer):
    """Stands in for a trunk that was cut; its variables are those behind the cut.

    Args:
        cut: the trunk in two parts.
        name: of the layer.
        prefix: of its inputs' names, where two trunks have a cut each.
        recompute: whether it is fed host outputs and makes what is before the cut itself, instead of being fed that.
    """

    def __init__(self, cut: Cut, *, name: str, prefix: str = "", recompute: bool = False) -> None:
        super().__init__(name=name, dtype="float32")
        self.after = cut.after
        self._parts = lambda: cut  # a function is not searched for variables: those before the cut are not this layer's
        self._prefix = prefix
        self._recompute = recompute

    def host_input(self) -> Any:
        """Returns a symbolic batch of what it is fed, to build a model on."""
        if self._recompute:
            return self._parts().trunk.host_input()
        return {
            key: keras.Input(spec.shape[1:], dtype=spec.dtype, name=self._prefix + key)
            for key, spec in self._parts().specs().items()
        }

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Returns the endpoints of a batch."""
        cut = self._parts()
        return cut.endpoints(cut.still(inputs) if self._recompute else inputs, training=bool(training))


def cut(trunk: Trunk) -> Cut | None:
    """Cuts a trunk at the last point that no gradient reaches, as its layers are frozen now.

    Returns:
        The two parts; None where the first layers train already, so that nothing is worth keeping, or where something that
        is no example's own crosses the cut.
    """
    network = trunk.network
    wanted = {name: network.output[name] for name in trunk.endpoints}
    leaves = tf.nest.flatten(wanted)
    nodes = _nodes_towards(network, leaves)
    still: set[int] = set()
    costly: set[int] = set()
    for node in nodes:
        if all(id(tensor) in still for tensor in node.input_tensors) and not _trains(node.operation):
            still.update(id(tensor) for tensor in node.outputs)
            weighs = bool(getattr(node.operation, "weights", None))
            if weighs or any(id(tensor) in costly for tensor in node.input_tensors):
                costly.update(id(tensor) for tensor in node.outputs)
    read = [tensor for node in nodes if not _made_still(node, still) for tensor in node.input_tensors] + leaves
    at_cut = list({id(tensor): tensor for tensor in read if id(tensor) in still}.values())
    if not any(id(tensor) in costly for tensor in at_cut):
        return None
    moving = list({id(tensor): tensor for tensor in leaves if id(tensor) not in still}.values())
    before = {f"still{k}": tensor for k, tensor in enumerate(at_cut)}
    after = {f"moving{k}": tensor for k, tensor in enumerate(moving)}
    names = {id(tensor): name for name, tensor in (before | after).items()}
    until = keras.Model(network.input, before)
    known = _BY_EXAMPLE.setdefault(network, {})
    tensors = frozenset(map(id, at_cut))
    if tensors not in known:
        known[tensors] = _by_example(until)
    if not known[tensors]:
        return None
    return Cut(
        trunk=trunk,
        before=until,
        after=keras.Model(at_cut, after) if moving else None,
        _read=tf.nest.map_structure(lambda tensor: names[id(tensor)], wanted),
    )


def cut_all(trunks: Mapping[str, Trunk]) -> dict[str, Cut] | None:
    """Returns where what is frozen now ends in each trunk; None where there is nothing in one."""
    cuts = {name: one for name, trunk in trunks.items() if (one := cut(trunk)) is not None}
    return cuts if cuts and len(cuts) == len(trunks) else None


def still_function(cuts: Mapping[str, Cut], task: Task) -> Callable[[Any], Any]:
    """Returns the function from a task's inputs to what is at the cuts: by tensor for one trunk, else by trunk and tensor."""

    def still(inputs: Any) -> Any:
        of_trunks = task.trunk_inputs(inputs, list(cuts))
        made = {name: one.still(of_trunks[name]) for name, one in cuts.items()}
        return made if len(made) > 1 else made.popitem()[1]

    return still


def cut_trunks(cuts: Mapping[str, Cut], *, recompute: bool) -> dict[str, CutTrunk]:
    """Returns layers that stand in for the trunks, to build a task's model on; see `CutTrunk`."""
    return {
        name: CutTrunk(one, name=one.trunk.name, prefix=f"{name}_" if len(cuts) > 1 else "", recompute=recompute)
        for name, one in cuts.items()
    }


def _trains(operation: Any) -> bool:
    """Tells whether training changes what an operation computes: its weights, or statistics that it follows."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    if operation.trainable_weights:
        return True
    # A batch normalisation without scale and shift has nothing to train and follows its batches all the same.
    return any(
        layer.trainable and layer.weights and isinstance(layer, keras.layers.BatchNormalization)
        for layer in operation._flatten_layers()
    )


def _by_example(network: keras.Model) -> bool:
    """Tells whether every output has a row for each example, which a table of relative positions has not (XLNet)."""

    def probe(tensor: Any) -> tf.TensorSpec:
        return tf.TensorSpec(
            (_PROBE_BATCH, *(_PROBE_LENGTH if d is None else d for d in tensor.shape[1:])), tensor.dtype
        )

    traced = tf.function(lambda x: network(x, training=False), autograph=False)
    outputs = traced.get_concrete_function(tf.nest.map_structure(probe, network.input)).structured_outputs
    return all(
        outputs[name].shape[0] == _PROBE_BATCH and outputs[name].shape[1:].is_compatible_with(tensor.shape[1:])
        for name, tensor in network.output.items()
    )


def _made_still(node: Any, still: set[int]) -> bool:
    return all(id(tensor) in still for tensor in node.outputs)


def _nodes_towards(network: keras.Model, outputs: list[Any]) -> list[Any]:
    """Returns the nodes that the outputs are made by, each after what it needs.

    They are the network's own: a layer also knows the nodes of other models that share it.
    """
    by_depth = network._nodes_by_depth
    needed = {id(tensor) for tensor in outputs}
    found = []
    for depth in sorted(by_depth):
        for node in by_depth[depth]:
            if any(id(tensor) in needed for tensor in node.outputs):
                needed.update(id(tensor) for tensor in node.input_tensors)
                found.append(node)
    return found[::-1]

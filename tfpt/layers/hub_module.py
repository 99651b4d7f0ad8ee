"""A TF2 reusable SavedModel as a Keras 3 layer that trains.

hub.KerasLayer is for Keras 2 and keras.layers.TFSMLayer can only infer. Here each tf.Variable of the loaded object becomes
the value of a Keras variable: it is the same variable, not a copy, so gradients, checkpoints, optimizers and freezing see
what the module's own functions read and write.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfpt")
class HubModule(keras.layers.Layer):
    """Calls a reusable SavedModel; returns its outputs by name, nested ones joined with `/`.

    The module has one `training` flag for all of it. So it runs in inference mode when the layer is frozen, and also when
    any of its scopes with moving statistics is: what is frozen never moves. Dropout is then off, too; gradients go on to
    reach what trains. The layer stays float32 under any precision policy, as the module's graph is what it is.

    Args:
        folder: the SavedModel.
        size: the side of pictures, where the module takes any.
        name: of the layer.

    Attributes:
        scopes: layers that hold the module's variables, by their names up to the last `/`, in the module's order.
    """

    def __init__(self, folder: str, *, size: int | None = None, name: str | None = None, **_: Any) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self.folder = folder
        self.size = size
        self.module = tf.saved_model.load(folder)
        call = self.module.__call__.concrete_functions[0]
        self._spec = call.structured_input_signature[0][0]
        traces = self.module.__call__.concrete_functions
        self._takes_training = any("training" in trace.function_type.parameters for trace in traces)
        # A module for inference only has no trace with the flag set; where it is a tensor, one trace is for both.
        self._can_learn = self._takes_training and any(
            value is True or getattr(value, "dtype", None) == tf.bool
            for trace in traces
            for value in tf.nest.flatten(trace.structured_input_signature)
        )
        self.scopes = list(_scopes(self.module))
        self.built = True
        self._observe_statistics()

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Runs the module.

        Args:
            inputs: what the module takes, cast to its dtypes.
            training: whether dropout is on and statistics move, as far as nothing that moves is frozen.

        Returns:
            Tensors by name; `output` where there is only one.
        """
        moving = [scope for scope in self.scopes if scope.statistics]
        learns = self._can_learn and bool(training) and self.trainable and all(scope.trainable for scope in moving)
        if isinstance(self._spec, Mapping):
            given = {key: tf.cast(inputs[key], spec.dtype) for key, spec in self._spec.items()}
        else:
            given = tf.cast(inputs, self._spec.dtype)
        if learns:
            with _paced(moving):
                outputs = self._run(given, training=True)
        else:
            outputs = self._run(given, training=False)
        if self.trainable:
            for loss in getattr(self.module, "regularization_losses", ()):
                self.add_loss(loss())
        return dict(_flat(outputs))

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {"name": self.name, "folder": self.folder, "size": self.size}

    def _run(self, inputs: Any, *, training: bool) -> Any:
        return self.module(inputs, training=training) if self._takes_training else self.module(inputs)

    def _observe_statistics(self) -> None:
        """Finds out which variables move in training, and with what momentum m: it stands nowhere but in the graph.

        On the same batch a statistic s moves by (1 - m) (b - s), and then by m times that. Modules that take no pictures
        are not tried out: every floating-point variable that is not trainable counts as a statistic.
        """
        if not self._can_learn:
            for scope in self.scopes:
                scope.statistics = []
        tried = [v for scope in self.scopes for v in scope.statistics]
        if not tried or isinstance(self._spec, Mapping) or len(self._spec.shape) != 4:
            return
        values = [v.value for v in tried]
        sides = [self.size if side is None else side for side in self._spec.shape[1:]]

        def moved() -> tuple[list[tf.Tensor], ...]:
            most = 256.0 if self._spec.dtype.is_integer else 1.0
            noise = tf.cast(tf.random.stateless_uniform([2, *sides], [1, 2], maxval=most), self._spec.dtype)
            seen = [[tf.identity(v) for v in values]]
            for _ in range(2):
                self._run(noise, training=True)
                seen.append([tf.identity(v) for v in values])
            for variable, value in zip(values, seen[0], strict=True):
                _assign(variable, value)
            return tuple([b - a for a, b in zip(seen[k], seen[k + 1], strict=True)] for k in (0, 1))

        # In a replica: outside of one a strategy's variables cannot be used by a loaded function.
        strategy = tf.distribute.get_strategy()
        replicas = strategy.run(tf.function(moved, autograph=False))
        first, second = tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0].numpy(), replicas)
        ratios = {
            v.path: np.sum(a * b) / np.sum(a * a) for v, a, b in zip(tried, first, second, strict=True) if a.any()
        }
        momentum = round(float(np.median(list(ratios.values()))), 4) if ratios else 0.0
        for scope in self.scopes:
            scope.statistics = [v for v in scope.statistics if v.path in ratios]
            if scope.statistics and 0 < momentum < 1:
                scope.momentum = scope.own_momentum = momentum


class VariableScope(keras.layers.Layer):
    """The variables of a module under one scope of names: a layer, so that it can be frozen by itself.

    Attributes:
        scope: their names up to the last `/`.
        statistics: those of its variables that move in training, as batch normalisation's do.
        momentum: of its moving statistics: 1 - momentum of the way is gone in each update; None where it is not known.
        own_momentum: the one in the module's graph.
    """

    def __init__(self, scope: str, variables: Mapping[str, tuple[tf.Variable, bool]]) -> None:
        super().__init__(name=scope.replace("/", ".") or "variables", dtype="float32", autocast=False)
        self.scope = scope
        self.momentum: float | None = None
        self.own_momentum: float | None = None
        with contextlib.ExitStack() as inside:
            for part in filter(None, scope.split("/")):
                inside.enter_context(keras.name_scope(part))
            self.held = [
                keras.Variable(v, dtype=v.dtype.name, trainable=trainable, name=name)
                for name, (v, trainable) in variables.items()
            ]
        self.statistics = [v for v in self.held if not v.trainable and tf.as_dtype(v.dtype).is_floating]
        self.built = True


def _scopes(module: Any) -> Iterator[VariableScope]:
    trained = {id(v) for v in getattr(module, "trainable_variables", ())}
    every = [*getattr(module, "variables", ()), *getattr(module, "trainable_variables", ())]
    names = {id(v): name for name, v in getattr(module, "variables_by_name", {}).items()}
    by_scope: dict[str, dict[str, tuple[tf.Variable, bool]]] = {}
    seen: set[int] = set()
    for variable in every:
        if id(variable) in seen:
            continue
        seen.add(id(variable))
        scope, _, name = names.get(id(variable), variable.name.partition(":")[0]).rpartition("/")
        members = by_scope.setdefault(scope.strip("/"), {})
        name = name or "variable"
        while name in members:  # names need not be unique, paths in Keras do
            name = f"{name}_{len(members)}"
        members[name] = (variable, id(variable) in trained)
    for scope, members in by_scope.items():
        yield VariableScope(scope, members)


@contextlib.contextmanager
def _paced(moving: Sequence[VariableScope]) -> Iterator[None]:
    """Makes statistics that move inside the block move by the scopes' momentum instead of the module's own."""
    changed = [
        (variable.value, (1 - scope.momentum) / (1 - scope.own_momentum))
        for scope in moving
        if scope.own_momentum is not None and scope.momentum is not None and scope.momentum != scope.own_momentum
        for variable in scope.statistics
    ]
    before = [tf.identity(variable) for variable, _ in changed]
    yield
    for (variable, factor), value in zip(changed, before, strict=True):
        _assign(variable, value + (tf.convert_to_tensor(variable) - value) * tf.cast(factor, value.dtype))


def _assign(variable: tf.Variable, value: tf.Tensor) -> None:
    """Assigns as the module itself does: in a replica a strategy's variable takes no `assign` without an aggregation."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items: Any = sorted(value.items())  # a SavedModel keeps no order
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        yield path or "output", value
        return
    for key, item in items:
        yield from _flat(item, f"{path}/{key}" if path else str(key))

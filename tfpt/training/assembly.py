"""Puts trunks, device halves and the task's model together, for a precision, from a seed."""

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf

from tfpt.backbones import Backbone
from tfpt.errors import UserError
from tfpt.layers.lean import make_lean
from tfpt.layers.lean_last_block import keep_first_token
from tfpt.layers.trunk import Trunk
from tfpt.preprocessors import Preprocessor
from tfpt.tasks import State, Task

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """A task's model with the parts it stands on, by trunk name."""

    model: keras.Model
    trunks: Mapping[str, Trunk]
    backbones: Mapping[str, Backbone]

    def head_variables(self) -> list[keras.Variable]:
        """Returns the model's variables outside its trunks, in a fixed order."""
        inside = {id(v) for trunk in self.trunks.values() for v in trunk.variables}
        return [v for v in self.model.variables if id(v) not in inside]


def assemble(
    task: Task,
    state: State,
    backbones: Mapping[str, Backbone],
    preprocessors: Mapping[str, Preprocessor],
    *,
    precision: str,
    seed: int,
) -> Assembly:
    """Builds the trunks with their weights and the task's model on top.

    Args:
        task: builds the model.
        state: of the task.
        backbones: by trunk name.
        preprocessors: by trunk name.
        precision: `float32`, `bfloat16` or `float16`: the trunks' arithmetic; everything else is float32.
        seed: of what is initialised at random.
    """
    with seeded(seed):
        trunks = {
            name: _trunk(backbone, preprocessors[name], task, precision, **_names(name, several=len(backbones) > 1))
            for name, backbone in backbones.items()
        }
        model = task.build(trunks, state)
    return Assembly(model=model, trunks=trunks, backbones=backbones)


def _names(trunk: str, *, several: bool) -> dict[str, str]:
    # Several trunks take a dictionary by trunk name, so the inputs have these names and the layers need others.
    return {"name": f"{trunk}_trunk", "input_name": trunk} if several else {"name": trunk}


def _trunk(backbone: Backbone, preprocessor: Preprocessor, task: Task, precision: str, **names: str) -> Trunk:
    with _policy(_POLICIES[precision]):
        network = backbone.build(preprocessor.size)
    if not (tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU")):
        make_lean(network)  # it was measured on CPUs; others have kernels of their own for these layers
    missing = [endpoint for endpoint in task.endpoints if endpoint not in network.output]
    if missing:
        raise UserError(
            f"--backbone={backbone.argument}: it has no output called {missing[0]}; it has {', '.join(network.output)}."
        )
    if task.endpoints == ("pooled",):
        network = keep_first_token(network)
    shape, dtype = preprocessor.host_spec()
    return Trunk(network, preprocessor.device(), endpoints=task.endpoints, shape=shape, dtype_in=dtype, **names)


def copy_variables(source: list[keras.Variable], target: list[keras.Variable]) -> None:
    """Copies values between two models of the same make.

    Raises:
        ValueError: they are not of the same make.
    """
    if [v.shape for v in source] != [v.shape for v in target]:
        raise ValueError("the two models have different variables")
    for a, b in zip(source, target, strict=True):
        b.assign(a)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Makes Keras' initialisers and seed generators start from the seed, and leaves no seed behind.

    Keras draws a missing seed from Python's generator.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

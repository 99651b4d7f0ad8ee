"""Starts from another run's weights: what has the same name and shape is taken over, a head's classes by their names.

Only checkpoint files are read, never the program in an exported model.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.tasks import State
from tfpt.training.assembly import Assembly

_COLLECTIONS = ("variables", "_all_variables")
"""What a checkpoint of a run, and Keras' export, call the list of the model's variables."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of another run.

    Attributes:
        read: returns a variable's value by its name.
        shapes: by name.
        classes: its classes in their order; empty where it has none.
    """

    read: Callable[[str], np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    classes: Sequence[str]


def load(assembly: Assembly, state: State, source: str, *, console: Console) -> None:
    """Takes over another run's weights and says what was taken over and what was not.

    Args:
        assembly: gets them.
        state: of its task; says its classes.
        source: a run folder, an exported model, or one of its version folders.
        console: is told.

    Raises:
        UserError: it is neither, or nothing fits.
    """
    found = open_weights(source)
    heads = _output_variables(assembly.model)
    classes = list(state.get("classes", ()))
    taken, missing, other_shape = 0, [], []
    for name, variable in _by_name(assembly.model.weights).items():
        if name not in found.shapes:
            missing.append(name)
            continue
        shape, there = tuple(variable.shape), found.shapes[name]
        of_classes = name in heads and (shape[-1:], there[-1:]) == ((len(classes),), (len(found.classes),))
        if of_classes and shape[:-1] == there[:-1]:
            variable.assign(_by_class(variable.numpy(), found.read(name), classes, found.classes))
        elif shape == there:
            variable.assign(found.read(name))
        else:
            other_shape.append(f"{name} ({_text(shape)} here, {_text(there)} there)")
            continue
        taken += 1
    if not taken:
        raise UserError(
            f"--train.init_from={source}: none of its {len(found.shapes)} variables has a name and shape of this model's "
            f"{len(assembly.model.weights)}; give a run or an exported model with the same --backbone."
        )
    console.say(f"From {source}: {taken} of {len(assembly.model.weights)} variables taken over.")
    same = [name for name in classes if name in found.classes]
    if classes and found.classes and list(found.classes) != classes:
        console.say(
            f"Of the {len(classes)} classes {len(same)} are among its {len(found.classes)}, and start as they were there."
        )
    for what, names in (("They have another shape there", other_shape), ("They are not there", missing)):
        if names:
            console.say(f"{what}, and start anew: {', '.join(names[:5])}{f', {len(names)} in all' * (len(names) > 5)}.")


def open_weights(source: str) -> Weights:
    """Opens the weights of a run that was trained to its end, or of an exported model.

    Raises:
        UserError: it is neither, or it is damaged.
    """
    folder = Path(source).expanduser()
    finals = sorted(folder.glob("checkpoints/final-*"))
    versions = sorted(
        (f.parent for f in folder.glob("*/saved_model.pb") if f.parent.name.isdecimal()), key=lambda f: int(f.name)
    )
    bundle = folder if (folder / "saved_model.pb").is_file() else versions[-1] if versions else None
    if not finals and not bundle:
        raise UserError(
            f"--train.init_from={source} is not a run that was trained to its end, nor an exported model; give a folder such as "
            "runs/NAME or saved_models/NAME."
        )
    try:
        if finals:
            prefix = finals[-1] / "variables"
            data = _json(folder / "data.json")
            classes = data.get("class_names") or list(data.get("classes", {}).get("train", ()))
        else:
            assert bundle is not None
            prefix = bundle / "variables" / "variables"
            classes = _json(bundle / "assets.extra" / "tfpt.json")["state"].get("classes", [])
        reader = tf.train.load_checkpoint(str(prefix))
        keys, shapes = _names(reader), reader.get_variable_to_shape_map()
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise UserError(
            f"--train.init_from={source} is damaged ({type(error).__name__}: {str(error).splitlines()[0][:200]}); train or export "
            "it again."
        ) from error
    return Weights(
        read=lambda name: reader.get_tensor(keys[name]),
        shapes={name: tuple(shapes[key]) for name, key in keys.items()},
        classes=classes,
    )


def _names(reader: Any) -> dict[str, str]:
    """Returns variable name -> checkpoint key, of the checkpoint's own record of its objects."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    entries = {}
    for attribute in (a for node in graph.nodes for a in node.attributes):
        collection, _, rest = attribute.checkpoint_key.partition("/")
        if collection in _COLLECTIONS:  # an exported model holds each variable twice
            entries[int(rest.partition("/")[0])] = attribute
    ordered = [entries[number] for number in sorted(entries)]
    return dict(zip(_distinct([a.full_name for a in ordered]), (a.checkpoint_key for a in ordered), strict=True))


def _by_name(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    return dict(zip(_distinct([v.path for v in variables]), variables, strict=True))


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns the names; one that has come before gets its number."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made


def _output_variables(model: keras.Model) -> set[str]:
    """Returns the names of the variables of the layers that make the model's outputs."""
    layers = {id(t._keras_history.operation): t._keras_history.operation for t in tf.nest.flatten(model.output)}
    return {v.path for layer in layers.values() for v in getattr(layer, "weights", ())}


def _by_class(here: np.ndarray, there: np.ndarray, classes: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Returns `here` with the last dimension's entries of the classes that are among the others."""
    made = here.copy()
    for k, name in enumerate(classes):
        if name in others:
            made[..., k] = there[..., list(others).index(name)]
    return made


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))

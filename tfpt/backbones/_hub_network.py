"""A reusable SavedModel as a network with named endpoints, and its variables as groups of layers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import _functional
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.backbones._hub_signature import Tensor

_POOLED = ("pooled", "pooled_output", "feature_vector", "embedding", "default", "output")
_SEQUENCE = ("sequence", "sequence_output")
_NUMBERED = re.compile(r"\D.*?\d+|\d+")
_INNER = re.compile(r"(unit|block|layer)s?_?\d+")
"""What is a block inside of a stage: `block1/unit_2` of ResNet."""


def endpoints(outputs: Mapping[str, "Tensor"], *, wanted: str, flag: str) -> dict[str, str]:
    """Returns endpoint -> the module's output that it is made of. Other outputs are endpoints by their own names.

    Args:
        outputs: of the module.
        wanted: the output that is `pooled`; `auto` chooses by name, or the only one that can be.
        flag: what the user wrote, for messages.

    Raises:
        UserError: it cannot be told which one is `pooled`.
    """
    able = [name for name, tensor in outputs.items() if len(tensor.shape) in (2, 4) and tensor.shape[-1]]
    named = [name for name in _POOLED if name in able]
    if wanted == "auto":
        chosen = named[0] if named else able[0] if len(able) == 1 else ""
    else:
        chosen = wanted if wanted in able else ""
    if not chosen:
        listed = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in outputs.items())
        raise UserError(
            f"{flag}: --backbone.output={wanted} does not tell which output is pooled, [batch, width] or [batch, height, width, "
            f"channels]; the module has {listed}."
        )
    made = {name: name for name in outputs} | {"pooled": chosen}
    for name in _SEQUENCE:
        if name in outputs and len(outputs[name].shape) == 3:
            made.setdefault("sequence", name)
    return made


def shapes(outputs: Mapping[str, "Tensor"], made: Mapping[str, str]) -> dict[str, tuple[int | None, ...]]:
    """Returns the shapes of endpoints, without the batch dimension."""
    found = {name: outputs[source].shape[1:] for name, source in made.items()}
    return {**found, "pooled": found["pooled"][-1:]}


def network(
    folder: Path, inputs: Any, made: Mapping[str, str], *, device: Any = None, size: int | None = None, name: str
) -> "keras.Model":
    """Returns the model from symbolic inputs to endpoints.

    Args:
        folder: the SavedModel.
        inputs: symbolic; what the module takes.
        made: endpoint -> output.
        device: symbolic; what `inputs` were made of, where that is something else.
        size: the side of pictures.
        name: of the model.
    """
    import keras

    from tfpt.layers.hub_module import HubModule

    outputs = HubModule(str(folder), size=size, name="module")(inputs)
    found = {endpoint: outputs[source] for endpoint, source in made.items()}
    if len(found["pooled"].shape) == 4:
        found["pooled"] = keras.layers.GlobalAveragePooling2D(name="pooled", dtype="float32")(found["pooled"])
    return keras.Model(inputs if device is None else device, found, name=re.sub(r"\W+", "_", name))


def groups(model: "keras.Model") -> list[list["keras.layers.Layer"]]:
    """Returns the scopes of the module's variables from shallow to deep, by their names: what has the same number in the
    same place (`block1/unit_2/...`, `layer_3/...`) belongs together; without a number, what has the same first part."""
    (module,) = (layer for layer in model.layers if layer.name == "module")
    parts = [scope.scope.split("/") for scope in module.scopes]
    shared = 0
    while (
        len(parts) > 1 and all(len(part) > shared + 1 for part in parts) and len({part[shared] for part in parts}) == 1
    ):
        shared += 1
    by_key: dict[tuple[str, ...], list[Any]] = {}
    for part, scope in zip(parts, module.scopes, strict=True):
        by_key.setdefault(_key(part[shared:]), []).append(scope)
    return list(by_key.values())


def _key(parts: list[str]) -> tuple[str, ...]:
    for k, part in enumerate(parts):
        if numbered := _numbered(part):
            inner = parts[k + 1 : k + 2]
            return (*parts[:k], numbered, *(inner if inner and _INNER.fullmatch(inner[0]) else ()))
    return (parts[0],)


def _numbered(part: str) -> str | None:
    if _NUMBERED.fullmatch(part):
        return part
    found = _functional._BLOCK.search(part)  # Keras' names, such as block4b_expand_conv
    return found.group() if found else None

"""Keras (`.keras`), to go on with in Python."""

import importlib
import pkgutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import startup
from tfpt.errors import UserError
from tfpt.formats import Format, Run

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.layers.trunk import Trunk
    from tfpt.serving.servable import Servable


class Keras(Format):
    """Keras 3's file of a whole model; `tfpt.formats.keras.load(file)` reads it, as it may hold layers of tfpt's."""

    file = "model.keras"
    tolerance = 1e-4
    alone = False
    of_bundle = False

    def write(self, servable: "Servable", bundle: Path, file: Path) -> None:
        """Saves the model, its trunks taken apart: a network, its device half and the head stand in it side by side."""
        try:
            _without_trunks(servable).save(str(file))
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise UserError(
                f"This model cannot be written as a Keras file ({reason}); leave keras out of --export.formats."
            ) from error

    def open(self, file: Path, *, threads: int) -> Run:
        """Returns the model's function, in inference mode."""
        startup.start_tensorflow(threads)
        model = load(file)

        def run(given: "Mapping[str, np.ndarray]") -> "dict[str, np.ndarray]":
            outputs = model(dict(given) if isinstance(model.input, dict) else given["inputs"], training=False)
            named = outputs if isinstance(outputs, dict) else {"outputs": outputs}
            return {name: value.numpy() for name, value in named.items()}

        return run


def load(file: str | Path) -> "keras.Model":
    """Returns the model that a `.keras` file of tfpt's holds; it can be trained again."""
    import keras

    import tfpt.layers

    for module in pkgutil.iter_modules(tfpt.layers.__path__):  # makes layers known to Keras
        importlib.import_module(f"tfpt.layers.{module.name}")
    with zipfile.ZipFile(file) as archive:
        if b"keras_hub" in archive.read("config.json"):
            importlib.import_module("keras_hub")
    return keras.models.load_model(file, compile=False)


class _Opened:
    """Looks like a trunk to a task, but leaves no layer of its own in the model."""

    def __init__(self, trunk: "Trunk") -> None:
        self._trunk = trunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trunk, name)

    def __call__(self, inputs: Any, **_: Any) -> dict[str, Any]:
        outputs = self._trunk.network(self._trunk.device(inputs))
        return {name: outputs[name] for name in self._trunk.endpoints}


def _without_trunks(servable: "Servable") -> "keras.Model":
    assert servable.model is not None
    opened: Any = {name: _Opened(trunk) for name, trunk in servable.trunks.items()}
    model = servable.task.build(opened, servable.state)
    inside = {id(v) for trunk in servable.trunks.values() for v in trunk.variables}
    ours, theirs = ([v for v in one.variables if id(v) not in inside] for one in (model, servable.model))
    for mine, original in zip(ours, theirs, strict=True):
        mine.assign(original)
    return model

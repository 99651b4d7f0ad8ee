"""The tensors of a Hugging Face folder by name, however they are stored, and which of them were asked for."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tfpt.errors import UserError
from tfpt.weights import torch_checkpoint
from tfpt.weights.hub import SINGLE
from tfpt.weights.safetensors_file import SafetensorsFile
from tfpt.weights.transformers_h5 import TransformersH5

_BASE = re.compile(r"^(albert|bert|camembert|deberta|distilbert|electra|model|roberta|transformer)\.")
"""The prefix by which a checkpoint with a head tells the network from the head; who asks for a tensor may have another."""


class TensorFolder:
    """Looks tensors up by name. A prefix that one side has and the other lacks (`bert.`) does not matter.

    Attributes:
        used: names of the tensors that were taken.
        missing: names that were asked for and are not there.

    Raises:
        UserError: the folder holds no weights, or they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: set[str] = set()
        self.missing: list[str] = []
        self._stored: dict[str, tuple[Mapping[str, np.ndarray], str]] = {}
        for file in _files(folder):
            tensors = _READERS.get(file.suffix, torch_checkpoint.read)(file)
            # Old checkpoints of TensorFlow's have TensorFlow's names.
            self._stored |= {_modern(name): (tensors, name) for name in tensors}

    @property
    def ignored(self) -> list[str]:
        """The names of the tensors that nothing asked for."""
        return [name for name in self._stored if name not in self.used]

    def find(self, name: str) -> str | None:
        """Returns the stored name that a name means, or None."""
        if name in self._stored:
            return name
        bare = _BASE.sub("", name)
        if bare in self._stored:
            return bare
        longer = [stored for stored in self._stored if stored.endswith(f".{bare}")]
        return longer[0] if len(longer) == 1 else None

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns a tensor.

        Raises:
            KeyError: it is not there.
        """
        stored = self.find(name)
        if stored is None:
            raise KeyError(name)
        self.used.add(stored)
        tensors, key = self._stored[stored]
        return tensors[key]

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        """Assigns a tensor to a variable; KerasHub's converters call it, with these argument names.

        Raises:
            UserError: the tensor has another shape.
        """
        try:
            values = self.get_tensor(hf_weight_key)
        except KeyError:
            self.missing.append(hf_weight_key)
            return
        try:
            keras_variable.assign(hook_fn(values, list(keras_variable.shape)) if hook_fn else values)
        except ValueError as error:
            raise UserError(
                f"{self.folder}: the tensor {hf_weight_key} is {list(values.shape)}, which does not fit "
                f"{list(keras_variable.shape)}; config.json and the weights are not from the same model."
            ) from error


_READERS: Mapping[str, Callable[[Path], Mapping[str, np.ndarray]]] = MappingProxyType(
    {".safetensors": SafetensorsFile, ".h5": TransformersH5}
)


def _files(folder: Path) -> list[Path]:
    for name in SINGLE:
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError) as error:
                raise UserError(f"{index}: this is no list of weights; fetch it again.") from error
            if any(Path(name).name != name for name in names):
                raise UserError(f"{index}: it names files outside its folder; fetch it again.")
            return [folder / name for name in names]
        if (folder / name).is_file():
            return [folder / name]
    raise UserError(f"{folder}: there are no weights; it needs {', '.join(SINGLE[:-1])} or {SINGLE[-1]}.")


def _modern(name: str) -> str:
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)

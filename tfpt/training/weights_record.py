"""weights.json: digests of the weights that a run began with, so that a later run can be told to have had the same."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfpt.backbones import CheckpointHead
from tfpt.training.assembly import Assembly
from tfpt.training.init_from import open_weights

FILE = "weights.json"


def describe(assembly: Assembly, *, head: CheckpointHead | None = None, init_from: str = "") -> dict[str, str]:
    """Returns SHA-256 over shapes, dtypes and values, in their order, of all weights that training begins with.

    Args:
        assembly: its trunks' variables, by trunk name.
        head: of the backbone's checkpoint, as `task.head`.
        init_from: the run or model that weights are taken over from, as `train.init_from`.
    """
    found = {
        name: _digest(variable.numpy() for variable in trunk.network.variables)
        for name, trunk in assembly.trunks.items()
    }
    if head:
        found["task.head"] = _digest(values for kernel, bias, _ in head.layers for values in (kernel, bias))
    if init_from:
        weights = open_weights(init_from)
        found["train.init_from"] = _digest(weights.read(name) for name in sorted(weights.shapes))
    return found


def _digest(arrays: Iterable[Any]) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        whole.update(f"{values.shape} {values.dtype.name};".encode())
        whole.update(values.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()

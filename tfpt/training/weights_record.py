"""weights.json: digests of the weights that a run began with, and whether it goes on, or is repeated, with the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.backbones import CheckpointHead
from tfpt.errors import UserError
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


def check_same(folder: Path, now: Mapping[str, str]) -> None:
    """Refuses to go on with a run in this folder that began with other weights and has learned from them.

    Raises:
        UserError: it says what other weights belong to.
    """
    if not any(folder.glob("checkpoints/[!.]*-*")):
        return
    try:
        before: dict[str, str] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # an older run has none
        return
    changed = [name for name, digest in now.items() if before.get(name, digest) != digest]
    if changed:
        raise UserError(
            f"--output.run_dir={folder} holds a run that began with other weights ({', '.join(changed)}): what --backbone or "
            "--train.init_from reads has changed since; bring it back, choose another --output.name, or start anew with "
            "--output.if_exists=new."
        )


def _digest(arrays: Iterable[Any]) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        whole.update(f"{values.shape} {values.dtype.name};".encode())
        whole.update(values.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()

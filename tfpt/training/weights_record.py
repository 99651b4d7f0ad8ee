"""weights.json: digests of the weights that a run began with, and whether it goes on, or is repeated, with the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.backbones import CheckpointHead
from tfpt.console import Console
from tfpt.engines import _choice
from tfpt.errors import UserError
from tfpt.training.assembly import Assembly
from tfpt.training.init_from import open_weights
from tfpt.training.machine import device_name

FILE = "weights.json"
MACHINE = "machine"
"""The entry that tells where weights were made: random ones and resized ones differ by rounding elsewhere."""


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


def where_made() -> str:
    """Returns what weights are made on."""
    return f"{_choice.machine_name()}, {device_name()}, TensorFlow {tf.__version__}"


def check_same(folder: Path, now: Mapping[str, str], *, console: Console) -> None:
    """Refuses to go on with a run in this folder that began with other weights and has learned from them.

    On another machine weights that are made, not read, may differ by rounding: there it only warns.

    Raises:
        UserError: it says what other weights belong to.
    """
    if not any(folder.glob("checkpoints/[!.]*-*")):
        return
    try:
        before: dict[str, str] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:  # an older run has none
        return
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / FILE} is damaged, so the weights that the run began with are not known; choose another --output.name."
        ) from error
    changed = [name for name, digest in now.items() if before.get(name, digest) != digest]
    if changed and before.get(MACHINE) != where_made():
        console.warn(
            f"The weights of {' and '.join(changed)} are not bit for bit those that the run began with on another machine "
            f"({before.get(MACHINE, 'not recorded')}); that is rounding, or what they are read from has changed."
        )
    elif changed:
        flags = dict.fromkeys(f"--{name}" if "." in name else "--backbone" for name in changed)
        raise UserError(
            f"--output.run_dir={folder} holds a run that began with other weights: what {' and '.join(flags)} read"
            f"{'s' if len(flags) == 1 else ''} has changed since; bring it back, choose another --output.name, or start anew with "
            "--output.if_exists=new."
        )


def _digest(arrays: Iterable[Any]) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        whole.update(f"{values.shape} {values.dtype.name};".encode())
        whole.update(values.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()

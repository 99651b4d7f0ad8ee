"""Writes a model in several formats into its bundle, each proven in a fresh process against the SavedModel."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt import formats
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.formats import _fresh_process
from tfpt.serving.servable import EXTRA, INPUTS, Answer, Servable

FOLDER = "formats"
"""Under `assets.extra`, where TensorFlow Serving does not look."""
DESCRIPTION = "formats.json"
MOST_EXAMPLES = 200
BATCH = 8


def write(
    names: Sequence[str],
    servable: Servable,
    bundle: Path,
    raw: Iterable[Mapping[str, bytes]],
    *,
    console: Console,
) -> dict[str, Any]:
    """Writes the files and what to know of them, beside those that the bundle has already.

    Args:
        names: of formats; `saved_model` is there already.
        servable: the model.
        bundle: its version folder, still under a temporary name.
        raw: raw values by feature, of examples that are answered by both; the first 200 are taken.
        console: is told.

    Returns:
        `formats`, what `formats.json` holds: for each format its file, its size, inputs, and how far it was off; empty where there
        is no file.

    Raises:
        UserError: the model cannot be written in a format, or a file of it does not answer as the SavedModel.
    """
    wanted = {name: formats.find(name) for name in names if formats.find(name).file}
    if not wanted:
        return {}
    folder = bundle / EXTRA / FOLDER
    folder.mkdir(exist_ok=True)
    there = folder / DESCRIPTION
    inputs = host_outputs(servable, [example for _, example in zip(range(MOST_EXAMPLES), raw, strict=False)])
    expected = _fresh_process.answers("saved_model", bundle, inputs, batch_size=BATCH)
    described = json.loads(there.read_text(encoding="utf-8")) if there.is_file() else {}
    for name, form in wanted.items():
        file = folder / form.file
        form.write(servable, bundle, file)
        started = time.monotonic()
        way_out = f"nothing was published; leave {name} out of --export.formats"
        try:
            found = _fresh_process.answers(name, file, inputs, batch_size=BATCH)
        except RuntimeError as error:
            raise UserError(f"--export.formats={name}: {error}; {way_out}.") from error
        off = largest_difference(expected, found)
        if not off <= form.tolerance:
            raise UserError(
                f"--export.formats={name}: {form.file} does not answer what the SavedModel does, an output differs by {off:.2g} "
                f"and {form.tolerance:g} is allowed; {way_out}."
            )
        described[name] = {
            "file": form.file,
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "inputs": {key: f"{values.dtype.name}{[None, *values.shape[1:]]}" for key, values in inputs.items()},
            "examples": len(next(iter(inputs.values()))),
            "max_difference": off,
            "tolerance": form.tolerance,
            "seconds": round(time.monotonic() - started, 1),
        }
        console.say(
            f"{form.file} ({file.stat().st_size / 1e6:.1f} MB) answers as the SavedModel in a fresh process: largest difference "
            f"{off:.1e}, {form.tolerance:g} is allowed."
        )
    there.write_text(json.dumps(described, indent=1), encoding="utf-8")
    return {"formats": described}


def host_outputs(servable: Servable, raw: Sequence[Mapping[str, bytes]]) -> dict[str, np.ndarray]:
    """Returns what the host half makes of raw examples, by the name of the model's input; texts are as long as the longest."""
    answer = Answer(servable.task, servable.state, servable.preprocessors, lambda inputs: inputs)
    made = answer.inputs_of_raw(**{name: tf.constant([one[name] for one in raw]) for name in answer.features()})
    named = made if isinstance(made, dict) else {INPUTS: made}
    return {name: value.numpy() for name, value in named.items()}


def largest_difference(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """Returns the largest difference of what both hold; of a number beyond 1 as a share of it; infinite for what is missing.

    Where texts have a fixed length in one of the two, what stands behind the shorter one is not compared.
    """
    largest = 0.0
    for name, wanted in expected.items():
        got = found.get(name)
        if got is None or got.ndim != wanted.ndim or len(got) != len(wanted):
            return float("inf")
        shape = tuple(map(min, wanted.shape[1:], got.shape[1:]))
        places = (slice(None), *map(slice, shape))
        a, b = wanted[places].astype(np.float64), got[places].astype(np.float64)
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        largest = max(largest, float(np.nanmax(np.abs(a - b) / np.maximum(1.0, np.abs(a)), initial=0.0)))
    return largest

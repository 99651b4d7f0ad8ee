"""Runs a model file in a process of its own, which knows nothing of the one that wrote it.

As a program it gets the name of a format, the file, an .npz file of inputs, threads, a batch size, seconds (0: answer all
inputs once; else: time one batch again and again, so long), and the .npz file for outputs or times.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfpt import formats

FEWEST = 10
"""Runs that are timed at least."""


def answers(
    name: str, file: Path, inputs: Mapping[str, np.ndarray], *, batch_size: int, threads: int = 1
) -> dict[str, np.ndarray]:
    """Returns the outputs of all inputs, `[examples, ...]` each.

    Raises:
        RuntimeError: the process failed.
    """
    return _run(name, file, inputs, threads=threads, batch_size=batch_size, seconds=0.0)


def times(
    name: str, file: Path, inputs: Mapping[str, np.ndarray], *, batch_size: int, threads: int, seconds: float
) -> np.ndarray:
    """Returns the seconds that each run of one batch took; at least 10 runs, after two to warm up.

    Raises:
        RuntimeError: the process failed.
    """
    return _run(name, file, inputs, threads=threads, batch_size=batch_size, seconds=seconds)["seconds"]


def _run(
    name: str, file: Path, inputs: Mapping[str, np.ndarray], *, threads: int, batch_size: int, seconds: float
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="tfpt-format-") as folder:
        given, made = Path(folder) / "inputs.npz", Path(folder) / "made.npz"
        arrays: Any = dict(inputs)
        np.savez(given, **arrays)
        arguments = [name, str(file.resolve()), str(given), str(threads), str(batch_size), str(seconds), str(made)]
        done = subprocess.run(
            [sys.executable, "-m", __name__, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"the fresh process that read {file.name} failed: {last[:300]}")
        with np.load(made) as loaded:
            return dict(loaded)


def main(name: str, file: str, given: str, threads: str, batch_size: str, seconds: str, made: str) -> None:
    """Answers or measures."""
    form = formats.find(name)
    with np.load(given) as loaded:
        inputs = dict(loaded)
    run = form.open(Path(file), threads=int(threads))
    size = int(batch_size)
    if float(seconds):
        examples = len(next(iter(inputs.values())))
        batch = {key: np.take(values, np.arange(size) % examples, axis=0) for key, values in inputs.items()}
        outputs = {"seconds": _timed(run, batch, float(seconds))}
    else:
        outputs = _all(run, inputs, size)
    if form.alone and "tensorflow" in sys.modules:
        raise SystemExit("TensorFlow was imported")
    results: Any = outputs
    np.savez(made, **results)


def _all(run: formats.Run, inputs: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    examples = len(next(iter(inputs.values())))
    parts = [
        run({name: values[start : start + size] for name, values in inputs.items()})
        for start in range(0, examples, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _timed(run: formats.Run, batch: Mapping[str, np.ndarray], seconds: float) -> np.ndarray:
    for _ in range(2):
        run(batch)
    found: list[float] = []
    begun = time.perf_counter()
    for done in itertools.count():
        started = time.perf_counter()
        if done >= FEWEST and started - begun > seconds:
            return np.array(found)
        run(batch)
        found.append(time.perf_counter() - started)
    raise AssertionError("it counts for ever")


if __name__ == "__main__":
    main(*sys.argv[1:])

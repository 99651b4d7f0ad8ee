"""The proof that a bundle answers what was evaluated: raw test examples, in a fresh process that has only TensorFlow."""

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from tfpt.serving.padding import concatenated, padded

TOLERANCE = 1e-4
"""The largest allowed difference of a score; of a number beyond 1 as a share of it."""
MOST_EXAMPLES = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """How well a bundle's answers agree with the evaluated ones.

    Attributes:
        passed: whether all differences are allowed ones.
        examples: how many were compared.
        max_difference: of any number in the answers.
        different: answers that are words or whole numbers and differ although the two highest scores are further apart
            than the tolerance.
        seconds: that the fresh process took, TensorFlow's start included.
        tolerance: the largest difference that is allowed.
        reason: why it did not pass; empty when it did.
    """

    passed: bool
    examples: int
    max_difference: float
    different: int
    seconds: float
    tolerance: float = TOLERANCE
    reason: str = ""


def choose(examples: np.ndarray, *, seed: int) -> np.ndarray:
    """Returns the examples to compare: all, or a seeded 2,000 of them."""
    if len(examples) <= MOST_EXAMPLES:
        return examples
    return np.random.default_rng(seed).choice(examples, MOST_EXAMPLES, replace=False)


def prove(
    bundle: Path,
    raw: Iterable[Mapping[str, bytes]],
    expected: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    libraries: Collection[str] = (),
    input_names: Mapping[str, str] = MappingProxyType({}),
) -> Parity:
    """Compares a bundle's answers with the evaluated ones.

    Args:
        bundle: a version folder.
        raw: raw values by feature, one example after the other.
        expected: answer by name, `[examples, ...]` each.
        batch_size: of the evaluation: at another size floating-point sums differ in the last bits.
        libraries: modules that the fresh process imports beside TensorFlow.
        input_names: feature -> what the bundle calls it, where that is something else.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tfpt-parity-") as folder:
        with contextlib.ExitStack() as open_files:
            writers: dict[str, tf.io.TFRecordWriter] = {}
            for example in raw:
                for feature, value in example.items():
                    if feature not in writers:
                        file = str(Path(folder) / f"{input_names.get(feature, feature)}.tfrecord")
                        writers[feature] = open_files.enter_context(tf.io.TFRecordWriter(file))
                    writers[feature].write(value)
        result = Path(folder) / "answers.npz"
        script = Path(__file__).with_name("fresh_process.py")
        command = [
            sys.executable,
            "-I",
            str(script),
            str(bundle.resolve()),
            folder,
            str(batch_size),
            str(result),
            *libraries,
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        examples = len(next(iter(expected.values())))
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return Parity(
                passed=False, examples=examples, max_difference=float("inf"), different=examples, seconds=seconds,
                reason=f"the fresh process failed: {last[:300]}",
            )  # fmt: skip
        with np.load(result) as loaded:
            return compare(expected, _joined(loaded), seconds=seconds)


def compare(expected: Mapping[str, np.ndarray], served: Mapping[str, np.ndarray], *, seconds: float) -> Parity:
    """Compares two answers to the same examples; numbers beyond 1 by their relative difference."""
    examples = len(next(iter(expected.values())))
    largest, different, reason = 0.0, 0, ""
    if set(expected) != set(served) or any(
        expected[n].ndim != served[n].ndim or len(expected[n]) != len(served[n]) for n in expected
    ):
        return Parity(
            passed=False, examples=examples, max_difference=float("inf"), different=examples, seconds=seconds,
            reason="the answers have other names or shapes",
        )  # fmt: skip
    close_call = _close_calls(expected, examples)
    for name in expected:
        # Answers of a batch are as long as its longest, and in the fresh process batches may be others.
        shape = tuple(map(max, expected[name].shape[1:], served[name].shape[1:]))
        wanted, got = padded(expected[name], shape), padded(served[name], shape)
        if np.issubdtype(wanted.dtype, np.floating):
            wanted = wanted.astype(np.float64)
            # A probability differs as it is; a predicted price differs by a share of itself.
            difference = np.abs(wanted - got.astype(np.float64)) / np.maximum(1.0, np.abs(wanted))
            largest = max(largest, float(np.nanmax(difference, initial=0.0)))
            if not np.array_equal(np.isnan(wanted), np.isnan(got)):
                largest = float("inf")
        else:
            rows = (wanted.astype("S") != got.astype("S")).any(axis=tuple(range(1, wanted.ndim)))
            different += int(np.sum(rows & ~close_call))
    if largest > TOLERANCE:
        reason = f"a score differs by {largest:.2g}, more than {TOLERANCE:g}"
    elif different:
        reason = f"{different} of {examples} answers differ"
    return Parity(
        passed=not reason,
        examples=examples,
        max_difference=largest,
        different=different,
        seconds=seconds,
        reason=reason,
    )


def _joined(batches: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns answers by name, of arrays by BATCH/NAME in the order of the batches."""
    names = dict.fromkeys(key.partition("/")[2] for key in batches)
    return {name: concatenated([batches[k] for k in batches if k.partition("/")[2] == name]) for name in names}


def _close_calls(expected: Mapping[str, np.ndarray], examples: int) -> np.ndarray:
    scores = expected.get("scores")
    if scores is None or scores.ndim != 2 or scores.shape[1] < 2:
        return np.zeros(examples, bool)
    highest = np.sort(scores, axis=1)[:, -2:]
    return highest[:, 1] - highest[:, 0] <= TOLERANCE

"""How well scores put the examples of a class before the others, whatever the threshold: in numpy, ties counted exactly.

A bootstrap computes these a thousand times, so a class costs one sort and a few passes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def ranking_metrics(scores: Array, truth: Array) -> dict[str, float]:
    """Returns the plain means over classes (macro averages) of ROC AUC and average precision.

    A class that has no example, or for ROC AUC nothing else, is left out of the mean; NaN where all are.

    Args:
        scores: `[examples, classes]` float32, probabilities.
        truth: `[examples, classes]`, bool: whether the example is of the class.
    """
    return {name: mean_of_defined(values) for name, values in ranking_by_class(scores, truth).items()}


def ranking_by_class(scores: Array, truth: Array) -> dict[str, NDArray[np.float64]]:
    """Returns `roc_auc` and `average_precision` of each class, `[classes]` each; NaN where it is not defined.

    Args:
        scores: `[examples, classes]` float32, probabilities.
        truth: `[examples, classes]`, bool.
    """
    columns = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(truth.T), strict=True)
    values = np.array([_of_class(*column) for column in columns]).reshape(-1, 2)
    return {"roc_auc": values[:, 0], "average_precision": values[:, 1]}


def mean_of_defined(values: Array) -> float:
    """Returns the mean of what is not NaN; NaN where everything is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def hits_from_above(scores: Array, truth: Array) -> tuple[Array, Array, Array]:
    """Counts from the highest score down, at each different score.

    Args:
        scores: `[examples]` float32, probabilities.
        truth: `[examples]`, bool.

    Returns:
        The different scores, falling; and how many true examples, and how many at all, have at least that score.

    Raises:
        ValueError: a score is not from 0 to 1.
    """
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError("scores must be probabilities, from 0 to 1")
    # The bits of such numbers grow with them and leave the highest two free, so that score and truth are one whole
    # number: sorting these takes a quarter of the time that sorting places takes.
    keys = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32) * 2 + truth  # + 0 makes -0 a 0
    keys.sort()
    keys = keys[::-1]
    bits = keys >> 1
    last = np.append(np.flatnonzero(bits[1:] != bits[:-1]), len(bits) - 1)
    return bits[last].view(np.float32), np.cumsum(keys & 1, dtype=np.int32)[last], last + 1


def _of_class(scores: Array, truth: Array) -> tuple[float, float]:
    positives = np.count_nonzero(truth)
    negatives = len(truth) - positives
    if not positives or np.isnan(scores).any():
        return float("nan"), float("nan")
    _, hits, seen = hits_from_above(scores, truth)
    new = _steps(hits)
    average_precision = float(new @ (hits / seen)) / positives
    if not negatives:
        return float("nan"), average_precision
    # Pairs of a true and an untrue example in the right order; equal scores are half right.
    pairs = float(_steps(seen - hits) @ (hits - new / 2))
    return pairs / (positives * negatives), average_precision


def _steps(counts: Array) -> Array:
    steps = counts.astype(np.float64)
    steps[1:] -= counts[:-1]
    return steps

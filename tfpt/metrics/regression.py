"""Metrics of predicted numbers, in numpy.

With several numbers an example, each metric is the plain mean over them, as scikit-learn's `uniform_average` is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpt.metrics.ranking import mean_of_defined

Array = NDArray[Any]


def regression_metrics(values: Mapping[str, Array]) -> dict[str, float]:
    """Returns the metrics of a split, each example counted once.

    R2 of targets that are all equal is 1 for exact predictions and else 0, as scikit-learn's is. A correlation with
    what does not vary is NaN.

    Args:
        values: `target` and `value`, `[examples, numbers]`: the truth and the prediction, in the data's unit.

    Returns:
        `r2`, the coefficient of determination; `mae` and `rmse`, in the data's unit; `pearson`; `spearman`, the
        correlation of ranks, equal numbers with their mean rank.
    """
    target, value = (np.asarray(values[name], np.float64) for name in ("target", "value"))
    error = value - target
    squares = np.square(error).sum(axis=0)
    spread = np.square(target - target.mean(axis=0)).sum(axis=0)
    r2 = np.where(spread > 0, 1 - squares / np.where(spread > 0, spread, 1), squares == 0)
    columns = list(zip(target.T, value.T, strict=True))
    return {
        "r2": float(r2.mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(squares / len(target)).mean()),
        "pearson": mean_of_defined(np.array([_correlation(a, b) for a, b in columns])),
        "spearman": mean_of_defined(np.array([_correlation(_ranks(a), _ranks(b)) for a, b in columns])),
    }


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else float("nan")


def _ranks(values: Array) -> Array:
    """Returns the place of each number in rising order, equal ones with their mean."""
    order = np.argsort(values)
    ordered = values[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(values) - 1) + 1
    starts = np.append(0, ends[:-1])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends) / 2, ends - starts)
    return ranks

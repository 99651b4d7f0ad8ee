"""From which score on an example is said to be of a class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpt.metrics.ranking import hits_from_above

NEUTRAL = 0.5
"""The threshold where the examples do not tell one."""


def best_f1_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """Returns the threshold with the highest F1; of equally good ones the nearest to 0.5.

    It lies in the middle between two scores, so that the last bit of a score decides nothing.

    Args:
        scores: `[examples]` float32, probabilities of the class.
        truth: `[examples]`, bool.

    Returns:
        A number that float32 holds exactly; 0.5 where no example is of the class.
    """
    positives = np.count_nonzero(truth)
    if not positives:
        return NEUTRAL
    different, hits, seen = hits_from_above(np.asarray(scores, np.float32), np.asarray(truth, bool))
    below = np.append(different[1:], np.float32(0))
    middle = (different + below) / np.float32(2)
    middle = np.where(middle > below, middle, different)  # two neighbours of float32 have nothing between them
    f1 = 2 * hits / (seen + positives)
    best = np.flatnonzero(f1 == f1.max())
    return float(middle[best[np.argmin(np.abs(middle[best] - NEUTRAL))]])

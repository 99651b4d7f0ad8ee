"""The one number that logits are divided by, so that scores are as high as answers are often right.

Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. It changes no answer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUNDS = (0.05, 20.0)
"""The lowest and the highest temperature."""
HALVINGS = 32
"""Of the interval between the bounds' logarithms: what is left of it is below what float32 can tell apart."""


def best_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the temperature with the lowest negative log-likelihood.

    As if one more example had been answered wrongly (Laplace's rule of succession, 1 / (examples + 2)), that share of each
    target lies on the other classes: answers that are all right would otherwise ask for scores of 1.

    Args:
        logits: `[examples, classes]`, of examples that the model was not trained on.
        labels: `[examples]`, integer, class indices.

    Returns:
        A number within `BOUNDS`, which float32 holds exactly; 1 where there is no example, or a logit is no number.
    """
    logits = np.asarray(logits, np.float64)
    if not len(logits) or not np.isfinite(logits).all():
        return 1.0
    examples, classes = logits.shape
    missed = 1.0 / (examples + 2)
    logits = logits - logits.max(axis=1, keepdims=True)
    of_label = logits[np.arange(examples), labels]
    others = (logits.sum(axis=1) - of_label) / (classes - 1)
    wanted = float(np.mean((1.0 - missed) * of_label + missed * others))

    def too_cold(temperature: float) -> bool:
        """Tells whether the loss falls as the temperature rises: it is convex in 1 / temperature."""
        scores = np.exp(logits / temperature)
        scores /= scores.sum(axis=1, keepdims=True)
        return float(np.mean(np.sum(scores * logits, axis=1))) > wanted

    low, high = np.log(BOUNDS)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if too_cold(float(np.exp(middle))) else (low, middle)
    return float(np.float32(np.exp((low + high) / 2)))

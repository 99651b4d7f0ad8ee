"""95 % intervals of metrics: how far a number could move with other test examples of the same kind.

Metrics get the percentile bootstrap over examples (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13): examples are drawn with replacement, the metric is computed again, and the interval is what the middle 95 %
of such values span. It says nothing about another training seed or other data.

A proportion, such as accuracy, gets the Wilson score interval instead (Wilson, JASA 1927; recommended by Brown, Cai and
DasGupta, Statistical Science 2001). When all of 20 examples are right, every bootstrap sample is all right as well and
the bootstrap would say "1.0 to 1.0"; Wilson says 0.84 to 1.0. It is used for every value, not only at the ends, since a
switch there would give 20 right of 20 a smaller lower end than 19 of 20.

Any other metric whose bootstrap samples all agree gets no interval: `low` and `high` are None.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""The share of repetitions in which an interval should cover the true value."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval, which are None where the examples do not tell."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def bootstrap(
    statistics: Mapping[str, Array],
    metrics: Callable[[Mapping[str, Array]], Mapping[str, float]],
    *,
    samples: int = 1000,
    seed: int = 0,
    proportions: Collection[str] = ("accuracy",),
) -> dict[str, Interval]:
    """Returns each metric with its 95 % interval.

    Args:
        statistics: values by name, `[examples, ...]` each, one row an example.
        metrics: computes metric values by name from such values. A metric that is not finite in a sample (a class that
            the sample lacks, for one) is left out of that sample.
        samples: number of bootstrap samples.
        seed: start of the random draws; equal seeds give equal intervals.
        proportions: metrics that are the share of examples with some property, which get the Wilson interval.

    Raises:
        ValueError: there are no examples, the arrays differ in length, or a metric in `proportions` is not a number of
            examples divided by all of them.
    """
    arrays = {name: np.asarray(values) for name, values in statistics.items()}
    sizes = {len(values) for values in arrays.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"an interval needs one row an example in every array, not {sorted(sizes)} rows")
    examples = sizes.pop()
    values = dict(metrics(arrays))
    names = [name for name in values if name not in proportions]
    intervals = {name: _wilson_of_share(name, values[name], examples) for name in values if name not in names}
    if names:
        drawn = np.empty((samples, len(names)))
        random = np.random.default_rng(seed)
        for row in drawn:
            chosen = random.integers(examples, size=examples)
            sample = metrics({name: array[chosen] for name, array in arrays.items()})
            row[:] = [sample[name] for name in names]
        for name, column in zip(names, drawn.T, strict=True):
            intervals[name] = _percentile(values[name], column)
    return {name: intervals[name] for name in values}


def wilson(successes: int, trials: int) -> Interval:
    """Returns the share of successes with its Wilson score interval.

    Args:
        successes: from 0 to `trials`.
        trials: at least 1.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    # The ends are exactly 0 and 1 there; floating point misses them by an ulp.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)


def _wilson_of_share(name: str, value: float, examples: int) -> Interval:
    if not math.isfinite(value):
        return Interval(value)
    successes = round(value * examples)
    # A float32 mean is off by 1e-7 of its value.
    if not 0 <= successes <= examples or abs(value * examples - successes) > 1e-6 * examples + 1e-9:
        raise ValueError(f"{name}={value} is not a share of {examples} examples; leave it out of `proportions`")
    return wilson(successes, examples)


def _percentile(value: float, column: NDArray[np.float64]) -> Interval:
    column = column[np.isfinite(column)]
    if not math.isfinite(value) or not column.size:
        return Interval(value)
    low, high = np.quantile(column, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if low == high:
        return Interval(value)
    return Interval(value, float(low), float(high))

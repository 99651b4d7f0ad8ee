"""What is reported of a model: metrics with intervals, and the raw values that the proof sends."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource
from tfpt.evaluation.intervals import bootstrap
from tfpt.evaluation.scoring import Scores
from tfpt.preprocessors import Preprocessor
from tfpt.serving.servable import Servable

MOST_NUMBERS = 60_000_000
"""So many numbers of statistics may go through a bootstrap: two seconds, where each must be sorted."""
SAMPLES = (200, 1000)
"""The fewest and the most bootstrap samples."""


def measure(servable: Servable, scores: Scores) -> dict[str, dict[str, float | None]]:
    """Returns each metric of scored examples as value, low and high (95 %).

    The intervals are of 1,000 bootstrap samples; where statistics are large, of fewer, at least 200.
    """
    task, state = servable.task, servable.state
    numbers = sum(values.size for values in scores.statistics.values())
    found = bootstrap(
        scores.statistics,
        lambda sample: task.metrics(sample, state),
        samples=int(np.clip(MOST_NUMBERS // max(1, numbers), *SAMPLES)),
        proportions=task.proportions,
    )
    return {name: dataclasses.asdict(interval) for name, interval in found.items()}


def raw_examples(
    source: DataSource, examples: Sequence[int], preprocessors: Collection[Preprocessor]
) -> Iterator[dict[str, bytes]]:
    """Yields the raw values of each example by feature, as a client would send them."""
    features = sorted({name for p in preprocessors for name in p.raw_features})
    for k in examples:
        raw = source.example(_int64(k))
        yield {feature: raw[feature].numpy() for feature in features}


def _int64(k: int) -> Any:
    import tensorflow as tf

    return tf.constant(int(k), tf.int64)

"""What is reported of a model: metrics with intervals, details, the majority baseline, the most wrong examples."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource, Index
from tfpt.evaluation.intervals import bootstrap
from tfpt.evaluation.report import WrongExample
from tfpt.evaluation.scoring import Scores
from tfpt.metrics.classification import majority_baseline, most_wrong
from tfpt.preprocessors import Preprocessor
from tfpt.serving.servable import Servable


def measure(servable: Servable, scores: Scores) -> dict[str, dict[str, float | None]]:
    """Returns each metric of scored examples as value, low and high (95 %)."""
    task, state = servable.task, servable.state
    found = bootstrap(scores.statistics, lambda sample: task.metrics(sample, state), proportions=task.proportions)
    return {name: dataclasses.asdict(interval) for name, interval in found.items()}


def baseline(labels: np.ndarray | None, *, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Returns what always answering the most frequent training class would score; nothing where there are no classes."""
    if labels is None:
        return {}
    return {"accuracy": majority_baseline(labels[train], labels[test])}


def wrong_examples(
    scores: Scores, index: Index, source: DataSource, state: Mapping[str, Any], *, count: int
) -> list[WrongExample]:
    """Returns the worst mistakes with their pictures, for tasks that give class scores."""
    if not count or "scores" not in scores.kept or "label" not in scores.statistics:
        return []
    values, labels, classes = scores.kept["scores"], scores.statistics["label"], state["classes"]
    return [
        WrongExample(
            name=index.names[int(scores.examples[i])],
            label=classes[int(labels[i])],
            predicted=classes[int(values[i].argmax())],
            score=float(values[i].max()),
            image=_raw(source, int(scores.examples[i]), "image"),
        )
        for i in most_wrong(values, labels, count=count)
    ]


def raw_examples(
    source: DataSource, examples: Sequence[int], preprocessors: Collection[Preprocessor]
) -> Iterator[dict[str, bytes]]:
    """Yields the raw values of each example by feature, as a client would send them."""
    features = sorted({name for p in preprocessors for name in p.raw_features})
    for k in examples:
        raw = source.example(_int64(k))
        yield {feature: raw[feature].numpy() for feature in features}


def _raw(source: DataSource, k: int, feature: str) -> bytes | None:
    value = source.example(_int64(k)).get(feature)
    return None if value is None else value.numpy()


def _int64(k: int) -> Any:
    import tensorflow as tf

    return tf.constant(int(k), tf.int64)

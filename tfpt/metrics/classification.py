"""Metrics of single-label classification, from scores and labels, in numpy.

Rows of a confusion matrix are true classes, columns are predicted ones. Precision, recall and F1 of a class whose
denominator is zero are 0. Macro averages are plain means over the classes that occur among labels or predictions, as
scikit-learn's are: a class that is absent from the split and never predicted does not count.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = float(np.finfo(np.float32).eps)
"""Scores are clipped to `[EPSILON, 1 - EPSILON]` before the logarithm, so that one certain mistake costs 15.9 nats."""

BINS = 15
"""Of the expected calibration error, as Guo et al. ("On Calibration of Modern Neural Networks", ICML 2017) have them."""

TOP = 5
"""Top-5 accuracy, for more classes than that."""

Array = NDArray[Any]


def classification_metrics(scores: Array, labels: Array) -> dict[str, float]:
    """Returns the metrics of a split, each example counted once.

    Args:
        scores: `[examples, classes]`, probabilities; of equal highest ones the first class is the prediction.
        labels: `[examples]`, integer, class indices.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall of the classes that occur among labels; `macro_precision`,
        `macro_recall` and `macro_f1`; `matthews`, the correlation of Gorodkin (2004), 0 where it is not defined;
        `expected_calibration_error` of the answer's score, in 15 bins of one width; `log_loss` in nats (natural
        logarithm); and with more than five classes `top5_accuracy`. A NaN among the scores of a true class makes
        `log_loss` NaN.

    Raises:
        ValueError: no examples, or shapes or labels that do not fit.
    """
    return metrics_of_outcomes(outcomes(scores, labels))


def outcomes(scores: Array, labels: Array) -> dict[str, Array]:
    """Reduces scores to the few values an example that the metrics need.

    Bootstrapping these with `metrics_of_outcomes` gives what bootstrapping the scores with `classification_metrics`
    gives, and its time does not grow with the number of classes.

    Args:
        scores: `[examples, classes]`, probabilities.
        labels: `[examples]`, integer, class indices.

    Returns:
        `predicted` and `label`, `[examples]` int64; `confidence`, `[examples]`, the score of the prediction;
        `log_likelihood`, `[examples]` float64, clipped; and with more than five classes `rank`, `[examples]` int64, how
        many classes come before the true one, of equal scores the first class first.

    Raises:
        ValueError: no examples, or shapes or labels that do not fit.
    """
    scores = np.asarray(scores)
    labels = _indices(labels, scores.shape[-1] if scores.ndim else 0, "label")
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} are not [examples, classes] and [examples]")
    if not len(labels):
        raise ValueError("there are no examples to compute metrics from")
    of_label = scores[np.arange(len(labels)), labels]
    found = {
        "predicted": scores.argmax(axis=1),
        "label": labels,
        "confidence": scores.max(axis=1),
        "log_likelihood": np.log(np.clip(of_label.astype(np.float64), EPSILON, 1 - EPSILON)),
    }
    if scores.shape[1] > TOP:
        earlier = np.arange(scores.shape[1]) < labels[:, None]
        found["rank"] = ((scores > of_label[:, None]) | ((scores == of_label[:, None]) & earlier)).sum(axis=1)
    return found


def metrics_of_outcomes(values: Mapping[str, Array]) -> dict[str, float]:
    """Returns what `classification_metrics` returns, from what `outcomes` returned, or a sample of it."""
    predicted, labels = values["predicted"], values["label"]
    right = predicted == labels
    classes = int(max(predicted.max(), labels.max())) + 1
    support = np.bincount(labels, minlength=classes)
    answers = np.bincount(predicted, minlength=classes)
    precision, recall, f1 = precision_recall_f1(np.bincount(labels[right], minlength=classes), answers, support)
    occurs = (support + answers) > 0
    found = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_precision": float(precision[occurs].mean()),
        "macro_recall": float(recall[occurs].mean()),
        "macro_f1": float(f1[occurs].mean()),
        "matthews": _matthews(int(right.sum()), answers, support),
        "expected_calibration_error": calibration_error(values["confidence"], right),
        "log_loss": float(-np.asarray(values["log_likelihood"], np.float64).mean()),
    }
    return {**found, "top5_accuracy": float((values["rank"] < TOP).mean())} if "rank" in values else found


def calibration_error(confidence: Array, right: Array) -> float:
    """Returns the expected calibration error: how far scores and the share of right answers lie apart, mean over bins.

    Args:
        confidence: `[examples]`, the score of each answer, from 0 to 1.
        right: `[examples]`, bool, whether the answer is right.
    """
    confidence = np.nan_to_num(np.asarray(confidence, np.float64))
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(places, weights=right - confidence)).sum() / len(right))


def confusion_matrix(predicted: Array, labels: Array, *, classes: int) -> NDArray[np.int64]:
    """Counts examples by true and predicted class.

    Args:
        predicted: `[examples]`, integer, class indices.
        labels: `[examples]`, integer, class indices.
        classes: number of classes.

    Returns:
        `[classes, classes]`, int64: row i, column j is the number of examples of class i that were called class j.

    Raises:
        ValueError: an index is not a class, or the lengths differ.
    """
    predicted, labels = _indices(predicted, classes, "prediction"), _indices(labels, classes, "label")
    if predicted.shape != labels.shape:
        raise ValueError(f"there are {predicted.size} predictions but {labels.size} labels")
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: Array, classes: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Returns `class`, `precision`, `recall`, `f1` and `support` (true examples) of each class, in order.

    Args:
        confusion: `[classes, classes]`, counts, rows true.
        classes: their names.
    """
    counts = np.asarray(confusion, np.int64)
    support = counts.sum(axis=1)
    columns = precision_recall_f1(np.diagonal(counts), counts.sum(axis=0), support)
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(classes, *columns, support, strict=True)
    ]


def majority_baseline(counts: Sequence[int], labels: Array) -> dict[str, float]:
    """Returns what always answering the most frequent training class (of equals, the first) would reach.

    Args:
        counts: training examples of each class.
        labels: `[examples]`, integer, class indices of the split that is measured.
    """
    predicted = np.full(len(labels), int(np.argmax(counts)))
    certain = {"confidence": np.ones(len(labels)), "log_likelihood": np.zeros(len(labels))}
    found = metrics_of_outcomes({"predicted": predicted, "label": labels, **certain})
    return {name: found[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "matthews")}


def most_wrong(scores: Array, labels: Array, predicted: Array, *, count: int) -> NDArray[np.int64]:
    """Returns indices of up to `count` wrongly classified examples, the most wrong first.

    Most wrong is where the score of the prediction exceeds the score of the true class most.

    Args:
        scores: `[examples, classes]`, probabilities.
        labels: `[examples]`, integer, class indices.
        predicted: `[examples]`, integer, class indices.
        count: how many at most.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    rows = np.arange(len(labels))
    excess = scores[rows, predicted] - scores[rows, labels]
    order = np.argsort(-excess, kind="stable")
    return order[(predicted != labels)[order]][:count]


def precision_recall_f1(right: Array, answers: Array, support: Array) -> tuple[Array, Array, Array]:
    """Returns precision, recall and F1 of each class from counts, `[classes]` each; 0 where a denominator is 0.

    Args:
        right: examples of the class that were called so.
        answers: examples that were called so.
        support: examples of the class.
    """
    precision, recall = _ratio(right, answers), _ratio(right, support)
    return precision, recall, _ratio(2 * right, answers + support)


def _matthews(right: int, answers: Array, support: Array) -> float:
    examples = int(support.sum())
    covariance = right * examples - int(answers @ support)
    spread = (examples**2 - int(answers @ answers)) * (examples**2 - int(support @ support))
    return covariance / spread**0.5 if spread else 0.0


def _ratio(numerator: Array, denominator: Array) -> Array:
    return numerator / np.maximum(denominator, 1)  # counts: a zero denominator has a zero numerator


def _indices(values: Array, classes: int, what: str) -> NDArray[np.int64]:
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"{what}s must be a list of whole numbers, not {values.dtype} {values.shape}")
    if values.size and (values.min() < 0 or values.max() >= classes):
        raise ValueError(f"a {what} is not a class index from 0 to {classes - 1}: {values.min()} ... {values.max()}")
    return values.astype(np.int64)

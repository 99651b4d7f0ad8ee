"""Metrics of multi-label classification: any number of classes for each example.

F1 of a class that neither occurs nor is chosen counts for nothing in the macro average, as with one class an example.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpt.metrics.classification import precision_recall_f1
from tfpt.metrics.ranking import ranking_by_class, ranking_metrics

Array = NDArray[Any]


def multi_label_metrics(values: Mapping[str, Array]) -> dict[str, float]:
    """Returns the metrics of a split, each example counted once.

    Args:
        values: `scores` `[examples, classes]`, probabilities; `labels` and `chosen` `[examples, classes]`, bool: the
            classes of an example and those that were answered; `log_likelihood` `[examples]`, the mean over classes.

    Returns:
        `macro_f1` and `micro_f1`; `subset_accuracy`, the share of examples with all classes right; `roc_auc` and
        `average_precision`, means over classes (the latter is called mAP); `log_loss` in nats, a mean over classes.
    """
    found = f1_metrics(values["chosen"], values["labels"])
    return {
        **found,
        "subset_accuracy": float((values["chosen"] == values["labels"]).all(axis=1).mean()),
        **ranking_metrics(values["scores"], values["labels"]),
        "log_loss": float(-np.asarray(values["log_likelihood"], np.float64).mean()),
    }


def f1_metrics(chosen: Array, labels: Array) -> dict[str, float]:
    """Returns `macro_f1` and `micro_f1` of answers `[examples, classes]`, bool."""
    right, answers, support = _counts(chosen, labels)
    occurs = (answers + support) > 0
    _, _, f1 = precision_recall_f1(right, answers, support)
    return {
        "macro_f1": float(f1[occurs].mean()) if occurs.any() else 0.0,
        "micro_f1": float(2 * right.sum() / max(1, (answers + support).sum())),
    }


def per_class(values: Mapping[str, Array], classes: Sequence[str], thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Returns `class`, `threshold`, `average_precision`, `roc_auc`, `precision`, `recall`, `f1` and `support` of each class.

    Args:
        values: as `multi_label_metrics` takes them.
        classes: their names.
        thresholds: of each class.
    """
    right, answers, support = _counts(values["chosen"], values["labels"])
    precision, recall, f1 = precision_recall_f1(right, answers, support)
    ranking = ranking_by_class(values["scores"], values["labels"])
    return [
        {
            "class": name,
            "threshold": float(thresholds[k]),
            "average_precision": float(ranking["average_precision"][k]),
            "roc_auc": float(ranking["roc_auc"][k]),
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(support[k]),
        }
        for k, name in enumerate(classes)
    ]


def most_wrong(scores: Array, labels: Array, chosen: Array, *, count: int) -> NDArray[np.int64]:
    """Returns indices of up to `count` examples with a wrong class, the most wrong first.

    Most wrong is where the score of a class that was wrongly chosen, or left out, is furthest from what it should be.

    Args:
        scores: `[examples, classes]`, probabilities.
        labels: `[examples, classes]`, bool.
        chosen: `[examples, classes]`, bool.
        count: how many at most.
    """
    excess = np.where(chosen != labels, np.abs(scores - labels), -1.0).max(axis=1)
    order = np.argsort(-excess, kind="stable")
    return order[excess[order] >= 0][:count]


def _counts(chosen: Array, labels: Array) -> tuple[Array, Array, Array]:
    right, answers, support = (np.count_nonzero(part, axis=0) for part in (chosen & labels, chosen, labels))
    return right, answers, support

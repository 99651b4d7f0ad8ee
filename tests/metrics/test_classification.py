"""Classification metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfpt.metrics.classification import (
    BINS,
    EPSILON,
    calibration_error,
    classification_metrics,
    confusion_matrix,
    majority_baseline,
    metrics_of_outcomes,
    most_wrong,
    outcomes,
    per_class,
)


def random_split(examples=500, classes=7, seed=0):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.full(classes, 0.3), size=examples).astype(np.float32)
    # The last two classes are never true; the last one is never predicted, either.
    scores[:, -1] = 0
    scores /= scores.sum(axis=1, keepdims=True)
    return scores, random.integers(classes - 2, size=examples)


def calibration_by_hand(confidence, right):
    edges = np.linspace(0, 1, BINS + 1)
    bins = [(low <= confidence) & (confidence < high) for low, high in zip(edges, [*edges[1:-1], 2], strict=False)]
    return sum(abs(right[b].mean() - confidence[b].mean()) * b.mean() for b in bins if b.any())


def test_equals_scikit_learn():
    scores, labels = random_split()
    predicted = scores.argmax(axis=1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    clipped = np.clip(scores[np.arange(len(labels)), labels].astype(np.float64), EPSILON, 1 - EPSILON)
    assert classification_metrics(scores, labels) == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
            "matthews": sklearn_metrics.matthews_corrcoef(labels, predicted),
            "expected_calibration_error": calibration_by_hand(scores.max(axis=1), predicted == labels),
            "top5_accuracy": sklearn_metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(7)),
            "macro_precision": precision,
            "macro_recall": recall,
            "macro_f1": f1,
            "log_loss": -np.log(clipped).mean(),
        }
    )


def test_log_loss_equals_scikit_learn():
    scores, labels = random_split(classes=9)
    scores = scores[:, :7] / scores[:, :7].sum(axis=1, keepdims=True)
    expected = sklearn_metrics.log_loss(labels, scores, labels=range(7))
    assert classification_metrics(scores, labels)["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_per_class_and_confusion_equal_scikit_learn():
    scores, labels = random_split()
    predicted = scores.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, classes=7)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=range(7)))
    expected = sklearn_metrics.precision_recall_fscore_support(labels, predicted, labels=range(7), zero_division=0)
    rows = per_class(confusion, list("abcdefg"))
    assert [row["class"] for row in rows] == list("abcdefg")
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], column)


def test_a_certain_mistake_costs_a_finite_log_loss():
    found = classification_metrics(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    assert found["log_loss"] == pytest.approx((-np.log(EPSILON) - np.log(1 - EPSILON)) / 2)
    assert 7.9 < found["log_loss"] < 8.0


def test_nan_scores_are_not_hidden():
    assert np.isnan(classification_metrics(np.array([[np.nan, np.nan], [0.1, 0.9]]), np.array([0, 1]))["log_loss"])


def test_outcomes_of_a_sample_are_a_sample_of_the_outcomes():
    scores, labels = random_split()
    chosen = np.array([5, 5, 3, 0])
    whole, sample = outcomes(scores, labels), outcomes(scores[chosen], labels[chosen])
    for name, values in whole.items():
        np.testing.assert_array_equal(values[chosen], sample[name])


def test_majority_baseline_answers_the_training_majority():
    found = majority_baseline([1, 2, 1], np.array([0, 0, 0, 1]))
    assert found == {"accuracy": 0.25, "balanced_accuracy": 0.5, "macro_f1": pytest.approx(0.2), "matthews": 0}
    assert majority_baseline([0, 1, 1], np.array([1, 2, 2]))["accuracy"] == pytest.approx(1 / 3)


def test_calibration_error_of_known_answers():
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    # 0.8 and 0.85 are in two bins: each is off on its own side
    assert calibration_error(np.array([0.75, 0.9]), np.array([True, False])) == pytest.approx((0.25 + 0.9) / 2)


def test_the_rank_is_that_of_the_answer_where_scores_are_equal():
    scores, labels = np.full((7, 7), 1 / 7), np.arange(7)
    found = outcomes(scores, labels)
    assert found["rank"].tolist() == list(range(7))
    metrics = metrics_of_outcomes(found)
    assert (metrics["accuracy"], metrics["top5_accuracy"]) == (pytest.approx(1 / 7), pytest.approx(5 / 7))


def test_most_wrong_orders_by_the_excess_over_the_true_class():
    scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01]])
    labels, predicted = np.array([1, 1, 1, 0]), scores.argmax(axis=1)
    assert most_wrong(scores, labels, predicted, count=5).tolist() == [1, 0]
    assert most_wrong(scores, labels, predicted, count=1).tolist() == [1]
    assert most_wrong(scores, labels, predicted, count=0).tolist() == []
    # with a threshold of its own the answer may have the lower score
    assert most_wrong(scores, labels, np.array([1, 1, 0, 1]), count=5).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("scores", "labels", "sentence"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "no examples"),
        (np.ones((2, 2)), np.array([0, 2]), "class index"),
        (np.ones((2, 2)), np.array([0, -1]), "class index"),
        (np.ones((2, 2)), np.array([0.0, 1.0]), "whole numbers"),
        (np.ones((3, 2)), np.array([0, 1]), "scores"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        classification_metrics(scores, labels)

"""Ranking metrics and thresholds against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfpt.metrics.ranking import ranking_by_class, ranking_metrics
from tfpt.metrics.thresholds import best_f1_threshold


@pytest.mark.parametrize("digits", [1, 7])
def test_equals_scikit_learn_with_and_without_ties(digits):
    random = np.random.default_rng(digits)
    scores = random.random((400, 4)).round(digits).astype(np.float32)
    truth = random.random((400, 4)) < scores**2
    found = ranking_by_class(scores, truth)
    for name, theirs in (
        ("roc_auc", sklearn_metrics.roc_auc_score),
        ("average_precision", sklearn_metrics.average_precision_score),
    ):
        np.testing.assert_allclose(found[name], theirs(truth, scores, average=None))
        assert ranking_metrics(scores, truth)[name] == pytest.approx(theirs(truth, scores))


def test_a_class_that_says_nothing_is_left_out_of_the_mean():
    scores = np.array([[0.9, 0.3, 0.5], [0.1, 0.4, 0.6]], np.float32)
    truth = np.array([[True, False, True], [False, False, True]])
    by_class = ranking_by_class(scores, truth)
    np.testing.assert_array_equal(by_class["roc_auc"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(by_class["average_precision"], [1, np.nan, 1])
    assert ranking_metrics(scores, truth) == {"roc_auc": 1, "average_precision": 1}
    nothing = ranking_metrics(scores[:, 1:2], truth[:, 1:2])
    assert np.isnan(list(nothing.values())).all()


def test_nan_scores_are_not_hidden():
    found = ranking_metrics(np.array([[np.nan], [0.5]], np.float32), np.array([[True], [False]]))
    assert np.isnan(list(found.values())).all()


def f1(scores, truth, threshold):
    chosen = scores >= np.float32(threshold)
    return 2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())


def test_no_threshold_has_a_better_f1():
    random = np.random.default_rng(0)
    for _ in range(30):
        scores = random.random(40).round(1).astype(np.float32)
        truth = random.random(40) < scores**2
        if truth.any():
            best = max(f1(scores, truth, t) for t in [*scores, *(scores / 2), 1])
            assert f1(scores, truth, best_f1_threshold(scores, truth)) == pytest.approx(best)


def test_the_threshold_lies_between_two_scores():
    assert best_f1_threshold(np.array([0.2, 0.25, 0.75, 0.9]), np.array([0, 0, 1, 1], bool)) == 0.5
    assert best_f1_threshold(np.array([0.1, 0.2]), np.array([True, True])) == pytest.approx(0.05)
    assert best_f1_threshold(np.array([0.7, 0.8]), np.array([False, False])) == 0.5
    one, other = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    assert best_f1_threshold(np.array([one, other]), np.array([False, True])) == other


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken():
    truth = np.array([1, 0, 0, 1], bool)  # F1 of the first alone and of all four is 2/3
    assert best_f1_threshold(np.array([0.9, 0.6, 0.55, 0.4]), truth) == pytest.approx(0.75)
    assert best_f1_threshold(np.array([0.9, 0.6, 0.55, 0.54]), truth) == pytest.approx(0.27)

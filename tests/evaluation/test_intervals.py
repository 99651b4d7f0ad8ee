"""Intervals: coverage, degenerate cases, seeds."""

import numpy as np
import pytest

from tfpt.evaluation.intervals import Interval, bootstrap, wilson
from tfpt.metrics.classification import classification_metrics, metrics_of_outcomes, outcomes


def mean(statistics):
    return {"mean": float(statistics["x"].mean())}


def accuracy(statistics):
    return {"accuracy": float(statistics["right"].mean())}


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval():
    x = np.random.default_rng(1).normal(size=400)
    found = bootstrap({"x": x}, mean)["mean"]
    half = 1.96 * x.std() / np.sqrt(len(x))
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.015)
    assert found.high == pytest.approx(x.mean() + half, abs=0.015)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    intervals = [bootstrap({"x": random.exponential(size=80)}, mean, samples=200, seed=k)["mean"] for k in range(200)]
    covered = np.mean([one.low <= 1 <= one.high for one in intervals])
    assert 0.88 <= covered <= 0.98


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # By hand from Wilson's formula, z = 1.959964; 0 of 10 and 20 of 20 are n/(n+z^2) and its mirror.
    [(20, 20, 20 / 23.841459, 1.0), (0, 10, 0.0, 3.841459 / 13.841459), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(successes, trials, low, high):
    found = wilson(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == successes / trials


def test_all_right_on_twenty_examples_is_not_reported_as_certain():
    found = bootstrap({"right": np.ones(20)}, accuracy)["accuracy"]
    assert found.value == 1 and found.high == 1
    assert found.low == pytest.approx(0.839, abs=1e-3)


def test_a_better_result_never_has_a_smaller_lower_end():
    lows = [bootstrap({"right": np.arange(20) < k}, accuracy)["accuracy"].low for k in range(21)]
    assert lows == sorted(lows)


def test_a_metric_that_never_varies_gets_no_interval():
    found = bootstrap({"x": np.ones(30)}, mean)["mean"]
    assert found == Interval(1.0, None, None)
    assert str(found) == "1.0000"


def test_samples_where_a_metric_is_undefined_are_left_out():
    def first_half_only(statistics):
        share = statistics["right"].mean()
        return {"m": float(share) if share < 0.5 else float("nan")}

    found = bootstrap({"right": np.arange(100) < 45}, first_half_only)["m"]
    assert found.low < 0.45 < found.high < 0.5


def test_a_value_that_is_not_a_number_has_no_interval():
    found = bootstrap({"x": np.array([1.0, np.nan])}, mean)["mean"]
    assert np.isnan(found.value) and found.low is None and found.high is None


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    x = {"x": np.random.default_rng(3).normal(size=50)}
    assert bootstrap(x, mean, seed=4) == bootstrap(x, mean, seed=4)
    assert bootstrap(x, mean, seed=4) != bootstrap(x, mean, seed=5)


def test_rows_of_all_arrays_are_drawn_together():
    x = np.random.default_rng(5).normal(size=50)
    found = bootstrap({"x": x, "y": x}, lambda s: {"d": float(np.abs(s["x"] - s["y"]).max())})["d"]
    assert found == Interval(0.0)


def test_scores_and_their_outcomes_have_the_same_intervals():
    random = np.random.default_rng(6)
    scores, labels = random.dirichlet(np.ones(4), size=120), random.integers(4, size=120)
    of_scores = bootstrap(
        {"scores": scores, "label": labels},
        lambda s: classification_metrics(s["scores"], s["label"]),
        samples=50,
    )
    assert bootstrap(outcomes(scores, labels), metrics_of_outcomes, samples=50) == of_scores


def test_the_global_random_state_is_left_alone():
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    bootstrap({"x": np.arange(9.0)}, mean, samples=5)
    assert np.random.random() == expected


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one row an example"):
        bootstrap({"x": np.ones(3), "y": np.ones(4)}, mean)
    with pytest.raises(ValueError, match="one row an example"):
        bootstrap({"x": np.ones(0)}, mean)
    with pytest.raises(ValueError, match="not a share"):
        bootstrap({"right": np.array([0.5, 0.2])}, accuracy)

"""Temperature: found again where it is known, better than its neighbours, and bounded where the data would not bound it."""

import numpy as np
import pytest

from tfpt.metrics.classification import classification_metrics
from tfpt.metrics.temperature import BOUNDS, best_temperature


def softmax(logits):
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def drawn(*, temperature, examples=4000, classes=5, seed=0):
    """Returns logits, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 4, (examples, classes))
    chances = softmax(logits / temperature).cumsum(axis=1)
    return logits.astype(np.float32), (random.random((examples, 1)) > chances).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    logits, labels = drawn(temperature=temperature)
    assert best_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


def test_it_has_the_lowest_loss_and_calibrates():
    logits, labels = drawn(temperature=2.5, examples=3000)
    found = best_temperature(logits, labels)
    losses = [
        classification_metrics(softmax(logits / t), labels)["log_loss"] for t in (0.9 * found, found, 1.1 * found)
    ]
    assert losses[1] < min(losses[0], losses[2])
    before, after = (classification_metrics(softmax(logits / t), labels) for t in (1.0, found))
    assert after["expected_calibration_error"] < 0.03 < 0.15 < before["expected_calibration_error"]
    assert after["accuracy"] == before["accuracy"]


def test_constants_added_to_an_example_change_nothing():
    logits, labels = drawn(temperature=2.0, examples=500)
    shifted = logits.astype(np.float64) + np.linspace(-900, 900, 500)[:, np.newaxis]
    assert best_temperature(shifted, labels) == pytest.approx(best_temperature(logits, labels), rel=1e-6)


def test_answers_that_are_all_right_do_not_ask_for_certainty():
    labels = np.arange(300) % 3
    logits = 4.0 * np.eye(3)[labels]
    found = best_temperature(logits, labels)
    assert softmax(logits / found)[0, 0] == pytest.approx(1 - 1 / 302, abs=1e-4)


def test_answers_that_say_nothing_get_the_highest_temperature():
    logits, _ = drawn(temperature=1.0, classes=2, examples=200)
    assert best_temperature(logits, 1 - logits.argmax(axis=1)) == pytest.approx(BOUNDS[1], rel=1e-4)
    assert best_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
    assert best_temperature(np.array([[np.nan, 1.0]]), np.array([0])) == 1.0

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.training.exact_head import STRENGTHS, _checked, logistic_regression


def data(classes=3, count=120, width=5, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width))
    labels = np.arange(count) % classes
    features = (centres[labels] + random.normal(size=(count, width))) * [1, 10, 0.1, 1, 100] + 7
    return features.astype(np.float32), labels


def probabilities(features, kernel, bias):
    return tf.nn.softmax(features.astype(np.float64) @ kernel.astype(np.float64) + bias).numpy()


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns_solution_in_the_features_own_units(classes):
    features, labels = data(classes)
    kernel, bias, told = logistic_regression(features, labels, np.ones(len(labels)), classes=classes, seed=0)
    strength = float(told.split("C = ")[1].split(",")[0])
    assert strength in STRENGTHS
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    wanted = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(standard, labels)
    assert (kernel.shape, bias.shape) == ((5, classes), (classes,))
    np.testing.assert_allclose(probabilities(features, kernel, bias), wanted.predict_proba(standard), atol=0.01)


def test_strength_follows_the_data():
    features, labels = data(count=300)
    clear = logistic_regression(features, labels, np.ones(300), classes=3, seed=0)[2]
    shuffled = np.random.default_rng(0).permutation(labels)
    noise = logistic_regression(features, shuffled, np.ones(300), classes=3, seed=0)[2]
    assert "C = 0.0001" in noise
    assert "C = 0.0001" not in clear


def test_weights_constant_features_rare_and_absent_classes():
    features, labels = data()
    features[:, 2] = 3.0
    weight = np.where(labels == 1, 0.001, 1.0)
    kernel, bias, _ = logistic_regression(features, labels, weight, classes=3, seed=0)
    assert np.all(kernel[2] == 0)
    assert probabilities(features, kernel, bias)[:, 1].max() < 0.2
    kernel, bias, _ = logistic_regression(features, labels * 2, np.ones(120), classes=6, seed=0)
    assert probabilities(features, kernel, bias)[:, [1, 3, 5]].max() < 1e-3
    one = np.where(np.arange(120) == 5, 2, labels % 2)
    assert "one example only" in logistic_regression(features, one, np.ones(120), classes=3, seed=0)[2]
    with pytest.raises(UserError, match="all of one class"):
        logistic_regression(features, labels * 0, np.ones(120), classes=3, seed=0)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [({}, True), ({"dropout": 0.5}, False), ({"label_smoothing": 0.1}, False), ({"loss": "focal"}, False)],
)
def test_only_plain_cross_entropy_is_solved(options, allowed):
    kind = find("task", "image_classification")
    task, state = kind("", kind.Config(**options)), {"classes": ["a", "b", "c"], "counts": [1, 1, 1]}

    class Features(keras.layers.Layer):
        def host_input(self):
            return {"still0": keras.Input((5,), name="still0")}

        def call(self, inputs):
            return {"pooled": inputs["still0"]}

    model = task.build({"trunk": Features()}, state)
    features, labels = data()
    batch = {"inputs": {"still0": tf.constant(features / 100)}, "weight": tf.ones(120)}
    stage = types.SimpleNamespace(task=task, model=model)
    for targets in (tf.constant(labels), tf.one_hot(labels, 3)):
        given = {**batch, "targets": targets}
        if allowed:
            values, found = _checked(stage, given, *model.trainable_variables)
            np.testing.assert_array_equal(found, labels)
            np.testing.assert_array_equal(values, batch["inputs"]["still0"])
            assert not np.any(model.trainable_variables[0])
        else:
            with pytest.raises(UserError, match="plain cross-entropy of a linear layer"):
                _checked(stage, given, *model.trainable_variables)
    mixed = {**batch, "targets": tf.one_hot(labels, 3) * 0.9 + 0.1 / 3}
    with pytest.raises(UserError, match="plain cross-entropy"):
        _checked(stage, mixed, *model.trainable_variables)

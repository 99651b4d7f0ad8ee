import keras
import numpy as np
import pytest
import tensorflow as tf
from toys.given_trunk import GivenTrunk

from tfpt.data import DataSource, Info
from tfpt.errors import UserError
from tfpt.metrics.classification import outcomes
from tfpt.tasks.image_classification import ImageClassification

STATE = {"classes": ["ant", "bee", "côte"]}
LOGITS = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0], [9.0, 8.0, -80.0]], np.float32)
LABELS = np.array([0, 1, 2])


class Source(DataSource):
    def info(self):
        return Info(features={"image": "image"}, classes=("ant",), origin="a folder")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_client_reads_label_score_and_all_scores():
    answer = ImageClassification().decode(tf.constant(LOGITS), {}, STATE)
    assert answer["label"].numpy().tolist() == [b"ant", "côte".encode(), b"ant"]
    np.testing.assert_allclose(answer["scores"], softmax(LOGITS), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(answer["score"], softmax(LOGITS).max(axis=1), rtol=1e-5)
    assert answer["classes"].shape == (3, 3)


@pytest.mark.parametrize("classes", [3, 7, 30])
def test_statistics_are_the_outcomes_of_the_metrics(classes):
    random = np.random.default_rng(classes)
    logits = random.normal(size=(9, classes)).round(0).astype(np.float32)  # with equal ones
    labels = random.integers(classes, size=9)
    state = {"classes": list(map(str, range(classes)))}
    found = dict(ImageClassification().statistics(tf.constant(logits), {"targets": tf.constant(labels)}, state))
    assert ("scores" in found) == (classes <= 20)
    scores = tf.nn.softmax(logits).numpy()
    np.testing.assert_array_equal(found.pop("scores", scores), scores)
    wanted = outcomes(scores, labels)
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_the_head_starts_with_equal_answers_and_drops_features_in_training():
    task = ImageClassification(config=ImageClassification.Config(dropout=0.5))
    model = task.build({"trunk": GivenTrunk({"pooled": (40,)})}, STATE)
    features = {"pooled": tf.ones([2, 40])}
    assert not model(features).numpy().any()
    model.get_layer("head").kernel.assign(tf.ones([40, 3]))
    np.testing.assert_allclose(model(features, training=False), 40.0)
    assert set(np.unique(model(features, training=True))) != {40.0}
    assert isinstance(model, keras.Model)


def test_one_class_is_not_enough():
    with pytest.raises(UserError, match="one class only, ant; classification needs at least two"):
        ImageClassification().adapt(Source(), np.arange(3))


def test_examples_need_no_label_to_be_answered():
    made = ImageClassification().batch({"image": 1, "weight": 2}, {}, STATE, False)
    assert made == {"inputs": 1, "weight": 2}

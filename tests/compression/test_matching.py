"""Feature matching: a linear map that learns along, pulls on the student's features, and is gone in the end."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.compression._matching import TEACHER_FEATURES, matched
from tfpt.compression._teacher import TaughtSource
from tfpt.compression.distill import TEACHER, taught
from tfpt.tasks import Task

WIDTH, EXAMPLES = 5, 24


class Toy(Task):
    """A linear head whose loss is the square of its outputs' distance to the label."""

    def batch(self, features, frame, state, training):
        return {"inputs": features["x"], "targets": features["label"], "weight": features["weight"]}

    def build(self, trunks, state):
        inputs = trunks["trunk"].host_input()
        model = keras.Model(inputs, keras.layers.Dense(3, name="head")(trunks["trunk"](inputs)["pooled"]))
        model.said = "kept"
        return model

    def losses(self, outputs, targets):
        return tf.reduce_sum(tf.square(outputs - tf.one_hot(targets, 3)), axis=-1)

    def statistics(self, outputs, batch, state):
        return {"label": batch["targets"]}


class Trunk:
    def __init__(self):
        self.dense = keras.layers.Dense(4, activation="tanh")

    def host_input(self):
        return keras.Input((6,))

    def __call__(self, inputs):
        return {"pooled": self.dense(inputs)}


@pytest.fixture
def learned():
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    x = random.normal(size=(EXAMPLES, 6)).astype(np.float32)
    features = {
        "x": tf.constant(x),
        "label": tf.constant(random.integers(0, 3, EXAMPLES)),
        "weight": tf.constant([1.0] * (EXAMPLES - 2) + [0.0] * 2),
        TEACHER: tf.constant(random.normal(size=(EXAMPLES, 3)).astype(np.float32)),
        TEACHER_FEATURES: tf.constant(np.tanh(x @ random.normal(size=(6, WIDTH))).astype(np.float32)),
    }
    own = taught(Toy(), kind="single", temperature=2.0, soft_weight=0.5)
    trunks = {"trunk": Trunk()}
    task = matched(own, width=WIDTH, weight=3.0)
    return SimpleNamespace(own=own, task=task, trunks=trunks, features=features, model=task.build(trunks, {}))


def test_the_distance_is_added_to_the_loss_with_its_weight(learned):
    model, batch = learned.model, learned.task.batch(learned.features, {}, {}, True)
    total, weights, outputs = learned.task.loss(model, batch, True)
    without, same_weights, same_outputs = learned.own.loss(model, batch, True)
    np.testing.assert_array_equal(outputs, same_outputs)
    pooled = learned.trunks["trunk"].dense(learned.features["x"]).numpy() @ model.teacher_map.numpy()
    wanted = learned.features[TEACHER_FEATURES].numpy()
    norms = np.linalg.norm(pooled, axis=1) * np.linalg.norm(wanted, axis=1)
    distance = 1 - np.sum(pooled * wanted, axis=1) / norms
    assert float(weights) == float(same_weights) == EXAMPLES - 2
    np.testing.assert_allclose(total - without, 3.0 * distance[:-2].sum(), rtol=1e-5)
    assert learned.task.statistics(outputs, batch, {})["label"] is learned.features["label"]


def test_features_come_nearer_and_the_map_learns(learned):
    model, batch = learned.model, learned.task.batch(learned.features, {}, {}, True)
    optimizer = keras.optimizers.Adam(0.03)
    optimizer.build(model.trainable_variables)
    assert any(v is model.teacher_map for v in model.trainable_variables)

    def distance():
        return float(learned.task.loss(model, batch, True)[0] - learned.own.loss(model, batch, True)[0])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss, _, _ = learned.task.loss(model, batch, True)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    before, map_before = distance(), model.teacher_map.numpy()
    for _ in range(60):
        step()
    assert distance() < 0.3 * before
    assert np.abs(model.teacher_map.numpy() - map_before).max() > 0.1


def test_in_the_end_the_student_is_alone(learned):
    outputs = learned.model(learned.features["x"])
    alone = [v.shape for v in learned.own.build(learned.trunks, {}).variables]
    assert len(learned.model.variables) == len(alone) + 1
    learned.task.finish(learned.model, None)
    assert [v.shape for v in learned.model.variables] == alone
    assert [v.shape for v in learned.task.build(learned.trunks, {}).variables] == alone
    np.testing.assert_array_equal(learned.model(learned.features["x"]), outputs)
    again = matched(learned.own, width=WIDTH, weight=1.0, learns=False)
    assert [v.shape for v in again.build(learned.trunks, {}).variables] == alone


def test_examples_hold_what_the_teacher_says():
    source = SimpleNamespace(argument="", config=None, example=lambda k: {"x": k})
    tables = {TEACHER: np.arange(6, dtype=np.float32).reshape(3, 2), TEACHER_FEATURES: np.ones((3, 1), np.float32)}
    example = TaughtSource(source, tables).example(tf.constant(1))
    assert example[TEACHER].numpy().tolist() == [2.0, 3.0] and example[TEACHER_FEATURES].shape == (1,)
    assert int(example["x"]) == 1

"""A loss and metrics of the user's own: what they are given, what a record says, and what is refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt import reproduce
from tfpt.errors import UserError
from tfpt.serving.servable import _component_name
from tfpt.tasks._own_functions import with_functions
from tfpt.tasks.image_classification import ImageClassification
from tfpt.tasks.image_regression import ImageRegression
from tfpt.tasks.token_classification import TokenClassification

STATE = {"labels": "single", "classes": ["a", "b", "c"], "counts": [1, 1, 1]}
LOGITS = tf.constant([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])


def squared(truth, outputs):
    """Brier's score."""
    return tf.reduce_sum((truth - tf.nn.softmax(outputs)) ** 2, axis=-1)


def hits(truth, answers):
    return (answers.argmax(axis=1) == truth).mean()


def model_of(outputs):
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Lambda(lambda _: outputs)(inputs))


@pytest.mark.parametrize("given", [squared, keras.losses.CategoricalCrossentropy(from_logits=True)])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_function_of_each_example(given, training):
    task, _ = with_functions(ImageClassification(), loss=given, metrics=None)
    labels = [1, 0]
    targets = tf.one_hot(labels, 3) if training else tf.constant(labels, tf.int64)
    batch = {"inputs": tf.zeros([2, 2]), "targets": targets, "weight": tf.constant([1.0, 0.5])}
    total, weight, outputs = task.loss(model_of(LOGITS), batch, training)
    shares = tf.nn.softmax(LOGITS).numpy()
    each = ((np.eye(3)[labels] - shares) ** 2).sum(axis=1) if given is squared else -np.log(shares[[0, 1], labels])
    assert float(total) == pytest.approx(each[0] + each[1] / 2, rel=1e-5)
    assert float(weight) == 1.5 and outputs.shape == (2, 3)


def test_a_loss_of_the_whole_batch_is_refused():
    task, _ = with_functions(ImageClassification(), loss=lambda t, o: tf.reduce_mean(t - o), metrics=None)
    batch = {"inputs": tf.zeros([2, 2]), "targets": tf.constant([0, 1]), "weight": tf.ones([2])}
    with pytest.raises(
        UserError, match=r"loss=<lambda> returns the shape \(\); it must return the loss of each example"
    ):
        task.loss(model_of(LOGITS), batch, True)


@pytest.mark.parametrize("classes", [3, 30])  # of many classes the task itself keeps no scores
def test_metrics_take_truth_and_answers(classes):
    task, _ = with_functions(ImageClassification(), loss=None, metrics=[hits])
    state = {**STATE, "classes": [f"c{k}" for k in range(classes)], "counts": [1] * classes}
    outputs = tf.random.stateless_normal([50, classes], [0, 0])
    labels = np.arange(50) % classes
    found = task.statistics(outputs, {"targets": tf.constant(labels)}, state)
    statistics = {name: value.numpy() for name, value in found.items()}
    metrics = task.metrics(statistics, state)
    assert metrics["hits"] == metrics["accuracy"] == pytest.approx((outputs.numpy().argmax(axis=1) == labels).mean())
    assert task.metric_names_of(state)[-1] == "hits"


def test_metrics_of_numbers_are_in_their_unit():
    task, _ = with_functions(ImageRegression(), loss=None, metrics={"worst": lambda t, a: np.abs(t - a).max()})
    state = {"labels": "values", "mean": [10.0], "spread": [2.0]}
    statistics = {"target": np.array([[8.0], [10.0]]), "value": np.array([[9.0], [13.0]])}
    assert task.metrics(statistics, state)["worst"] == 3.0


def test_the_task_stays_the_task_and_its_record_names_the_functions():
    task, told = with_functions(ImageClassification(), loss=squared, metrics={"mine": hits})
    assert _component_name("task", task) == "image_classification"
    first, loss, metric = told.split("+")
    assert (first, loss[:13], metric[:10]) == ("ImageClassification", "loss=squared@", "mine=hits@")

    def record(loss):
        return with_functions(ImageClassification(), loss=loss, metrics=None)[1]

    assert record(squared) == record(squared) != record(lambda t, o: t * 2)
    assert record(lambda t, o: t * 2) == record(lambda t, o: t * 2) != record(lambda t, o: t * 3)
    assert record(keras.losses.MeanSquaredError()) == record(keras.losses.MeanSquaredError())
    smooth = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    assert record(smooth) != record(keras.losses.CategoricalCrossentropy())


@pytest.mark.parametrize(
    ("task", "given", "says"),
    [
        (TokenClassification(), {"loss": squared}, "TokenClassification has its own: subclass it"),
        (ImageClassification(), {"loss": "focal"}, r'task_options=\{"loss": "..."\}'),
        (ImageClassification(), {"loss": 3}, "loss=3: give a function"),
        (
            ImageClassification(config=ImageClassification.Config(label_smoothing=0.1)), {"loss": squared},
            "task.label_smoothing=0.1 belongs to the task's own loss",
        ),
        (ImageClassification(), {"metrics": {"accuracy": hits}}, "metrics: accuracy is a name of the task's own"),
        (ImageClassification(), {"metrics": [lambda t, a: 0]}, "metrics: <lambda> is not of letters, digits and _"),
        (ImageClassification(), {"metrics": {"x": keras.metrics.AUC()}}, "metrics: x is not a function of truth and answers"),
    ],
)  # fmt: skip
def test_refused(task, given, says):
    with pytest.raises(UserError, match=says):
        with_functions(task, **{"loss": None, "metrics": None, **given})


def test_a_run_learns_by_the_function_and_is_not_reproduced_without_it(fit, pictures, tmp_path, capsys):
    options = {"data": f"folder:{pictures}", "epochs": 0, "publish": False, "task_options": {"dropout": 0.1}}
    run = fit(tmp_path, loss=squared, metrics={"hits": hits}, require="hits>=0", **options)
    found = run.metrics["test"]
    assert found["hits"]["value"] == found["accuracy"]["value"] and found["hits"]["high"] is not None
    assert all(row["loss"] < 2 for row in run.history)  # the most that Brier's score can be
    assert "hits" in next(row for row in run.history if row["split"] == "validation")
    assert json.loads((run.folder / "metrics.json").read_text())["task"].startswith(
        "object:ImageClassification+loss=squared@"
    )
    with pytest.raises(UserError, match="other settings"):
        fit(tmp_path, loss=lambda t, o: squared(t, o) * 2, metrics={"hits": hits}, require="hits>=0", **options)
    with pytest.raises(SystemExit) as exit:
        reproduce.main([str(run.folder)])
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert (
        "made in Python with an object of the class ImageClassification+loss=squared@" in said
        and "from Python again" in said
    )

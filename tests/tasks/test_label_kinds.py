"""What follows from the kind of labels: settings, losses, thresholds, answers."""

import numpy as np
import pytest
import tensorflow as tf
from toys.given_trunk import GivenTrunk

from tfpt.data.csv import Csv
from tfpt.errors import UserError
from tfpt.tasks.image_classification import ImageClassification
from tfpt.tasks.image_regression import ImageRegression
from tfpt.tasks.text_classification import TextClassification

LOGITS = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0], [9.0, 8.0, -80.0]], np.float32)
LABELS = np.array([0, 1, 2])
HELD = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)
TABLES = {
    "single": ["text,label", *(f"t{k},{'yes' if k % 7 == 0 else 'no'}" for k in range(70))],
    "three": ["text,label", *(f"t{k},{'abc'[k % 3]}" for k in range(9))],
    "multi": ["text,a,b,c", "x,1,0,0", "y,1,1,0", "z,0,1,0", "w,1,0,0"],
    "values": ["text,target", "x,1.5", "y,2.5", "z,5.0", "w,3.0"],
    "pair": ["text,length,weight", "x,1.5,100", "y,2.5,200", "z,3.5,100", "w,4.5,200"],
}


@pytest.fixture
def source(tmp_path):
    """Returns `source(kind)`: a small table of texts."""

    def source(kind):
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join(TABLES[kind]) + "\n")
        columns = {"multi": ("a", "b", "c"), "pair": ("length", "weight")}.get(kind, ("auto",))
        return Csv(str(path), Csv.Config(label=columns))

    return source


def text_task(**settings):
    return TextClassification(config=TextClassification.Config(**settings))


def adapted(task, source):
    return task.adapt(source, np.arange(source.info().size))


def loss(task, state, logits, targets, *, training=False):
    """Returns loss and weight sums of given outputs."""
    model = task.build({"trunk": GivenTrunk({"pooled": (logits.shape[1],)})}, state)
    model.get_layer("head").kernel.assign(np.eye(logits.shape[1]))
    batch = {"inputs": {"pooled": logits}, "targets": tf.constant(targets), "weight": tf.ones([len(logits)])}
    loss_sum, weight_sum, outputs = task.loss(model, batch, training)
    np.testing.assert_allclose(outputs, logits, rtol=1e-6)
    return float(loss_sum), float(weight_sum)


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


# What the data decides.


def test_labels_are_what_the_data_has(source):
    task = text_task()
    assert [adapted(task, source(kind))["labels"] for kind in ("single", "multi", "values")] == [
        "single",
        "multi",
        "values",
    ]
    assert adapted(task, source("multi")) == {
        "labels": "multi",
        "classes": ["a", "b", "c"],
        "counts": [3, 2, 0],
        "examples": 4,
        "thresholds": [0.5, 0.5, 0.5],
        "calibrated": True,
        "metric": "average_precision",
    }
    values = adapted(task, source("values"))
    assert (values["mean"], values["spread"]) == ([3.0], [pytest.approx(np.std([1.5, 2.5, 5, 3]))])
    assert values["metric"] == "r2"


def test_only_training_examples_are_learned_from(source):
    assert text_task().adapt(source("values"), np.array([0, 1]))["mean"] == [2.0]
    assert text_task().adapt(source("multi"), np.array([2, 3]))["counts"] == [1, 1, 0]


def test_classes_of_very_different_size_change_the_primary_metric_and_are_said(source):
    task = text_task()
    state = adapted(task, source("single"))
    assert task.primary_of(state).name == "macro_f1"
    (note,) = task.notes(state)
    assert note.startswith(
        "The class no has 60 training examples and the class yes has 10, over 5 times fewer: macro_f1"
    )
    assert "--task.class_weights=balanced" in note
    assert task.primary_of(adapted(task, source("three"))).name == "accuracy"
    assert task.notes(adapted(task, source("three"))) == ()
    chosen = text_task(metric="log_loss")
    primary = chosen.primary_of(adapted(chosen, source("single")))
    assert (primary.name, primary.higher_is_better) == ("log_loss", False)


def test_a_class_without_a_training_example_is_said(source):
    task = text_task()
    notes = task.notes(adapted(task, source("multi")))
    assert notes == ["c: no training example has the class, so it cannot be recognised."]


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"metric": "r2"}, "single", "--task.metric=r2 is not a metric of these labels; there are accuracy, balanced"),
        ({"metric": "f1"}, "three", "--task.metric=f1 is not a metric"),
        ({"loss": "huber"}, "multi", "--task.loss=huber does not fit these labels; cross_entropy, focal do"),
        ({"loss": "focal"}, "values", "--task.loss=focal does not fit these labels; mse, mae, huber do"),
        ({"threshold": 0.3}, "three", "--task.threshold=0.3: with 3 classes"),
        ({"label_smoothing": 0.1}, "values", "--task.label_smoothing=0.1 is for classes"),
        (
            {"labels": "multi"},
            "single",
            "--task.labels=multi needs any number of classes an example, and the labels of",
        ),
        ({"labels": "values"}, "multi", "--data.label_type=number takes labels as numbers"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_one_sentence(source, settings, kind, sentence):
    with pytest.raises(UserError) as error:
        adapted(text_task(**settings), source(kind))
    assert sentence in str(error.value)


def test_a_task_refuses_labels_that_it_does_not_learn(source):
    with pytest.raises(UserError, match=r"--task=image_classification needs one class an example, .* image_regression"):
        adapted(ImageClassification(), source("values"))
    with pytest.raises(UserError, match="--task=image_regression needs numbers to predict"):
        adapted(ImageRegression(), source("single"))


def test_metrics_that_may_be_required_are_those_of_the_labels(source):
    task = text_task()
    names = {kind: task.metric_names_of(adapted(task, source(kind))) for kind in ("single", "three", "values")}
    assert "f1" in names["single"] and "f1" not in names["three"]
    assert names["values"] == ("r2", "mae", "rmse", "pearson", "spearman")


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.5}, {"focal_gamma": -1.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TextClassification.Config(**wrong)


# Losses.


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_one_class_is_the_smoothed_cross_entropy(smoothing):
    task, state = text_task(label_smoothing=smoothing), {"classes": list("abc")}
    wanted = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    losses = -(wanted * np.log(softmax(LOGITS))).sum(axis=1)
    assert loss(task, state, LOGITS, LABELS) == (pytest.approx(losses.sum(), rel=1e-5), 3)
    # shares of classes, as training has them and mixup mixes them
    targets = task.batch({"text": LOGITS, "label": LABELS, "weight": 1}, {}, state, True)["targets"]
    assert loss(task, state, LOGITS, targets)[0] == pytest.approx(losses.sum(), rel=1e-5)
    mixed = (np.eye(3) + np.eye(3)[::-1]).astype(np.float32) / 2
    wanted = mixed * (1 - smoothing) + smoothing / 3
    assert loss(task, state, LOGITS, mixed)[0] == pytest.approx(-(wanted * np.log(softmax(LOGITS))).sum(), rel=1e-5)


def test_the_loss_of_several_classes_is_the_mean_binary_cross_entropy():
    state = {"labels": "multi", "classes": list("abc")}
    p, wanted = sigmoid(LOGITS), HELD * 0.8 + 0.1
    losses = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean(axis=1)
    assert loss(text_task(label_smoothing=0.2), state, LOGITS, HELD) == (pytest.approx(losses.sum(), rel=1e-5), 3)


def test_the_focal_loss_is_cross_entropy_times_a_power_of_what_is_missing():
    task = text_task(loss="focal", focal_gamma=3.0)
    p = softmax(LOGITS)[np.arange(3), LABELS]
    assert loss(task, {"classes": list("abc")}, LOGITS, LABELS)[0] == pytest.approx(
        -((1 - p) ** 3 * np.log(p)).sum(), rel=1e-5
    )
    p = np.where(HELD == 1, sigmoid(LOGITS), 1 - sigmoid(LOGITS))
    state = {"labels": "multi", "classes": list("abc")}
    expected = -((1 - p) ** 3 * np.log(p)).mean(axis=1).sum()
    assert loss(task, state, LOGITS, HELD)[0] == pytest.approx(expected, rel=1e-4)
    plain = text_task(loss="focal", focal_gamma=0.0)
    for held, of in ((LABELS, {"classes": list("abc")}), (HELD, state)):
        assert loss(plain, of, LOGITS, held)[0] == pytest.approx(loss(text_task(), of, LOGITS, held)[0], rel=1e-5)


def test_balanced_classes_weigh_alike_in_training_only():
    task, state = text_task(class_weights="balanced"), {"classes": list("abc"), "counts": [8, 1, 1]}
    losses = -np.log(softmax(LOGITS)[np.arange(3), LABELS])
    weights = np.array([10 / 24, 10 / 3, 10 / 3])  # all classes together weigh 10 / 3 each
    weighted = loss(task, state, LOGITS, LABELS, training=True)
    assert weighted == (pytest.approx((losses * weights).sum(), rel=1e-5), pytest.approx(weights.sum(), rel=1e-5))
    assert loss(task, state, LOGITS, LABELS) == (pytest.approx(losses.sum(), rel=1e-5), 3)
    state = {"labels": "multi", "classes": list("abc"), "counts": [8, 5, 0], "examples": 10}
    p = sigmoid(LOGITS)
    weights = np.where(HELD == 1, [10 / 16, 1, 5], [10 / 4, 1, 1 / 2])
    losses = -np.where(HELD == 1, np.log(p), np.log(1 - p)) * weights
    expected = losses.mean(axis=1).sum()
    assert loss(task, state, LOGITS, HELD, training=True) == (pytest.approx(expected, rel=1e-5), 3)


@pytest.mark.parametrize(
    ("name", "of_error"),
    [
        ("mse", np.square),
        ("mae", np.abs),
        ("huber", lambda e: np.where(np.abs(e) <= 1, e**2 / 2, np.abs(e) - 0.5)),
    ],
)
def test_the_loss_of_numbers_is_in_standard_deviations(name, of_error):
    task = ImageRegression(config=ImageRegression.Config(loss=name))
    state = {"labels": "values", "mean": [10.0, 0.0], "spread": [2.0, 0.5]}
    raw = np.array([[14.0, 0.25], [9.0, 2.0]], np.float32)
    targets = task.batch({"image": raw, "target": raw, "weight": 1}, {}, state, True)["targets"]
    np.testing.assert_allclose(targets, [[2, 0.5], [-0.5, 4]])
    outputs = np.array([[0.5, 0.25], [-0.25, 0.5]], np.float32)
    expected = of_error(outputs - targets.numpy()).mean(axis=1).sum()
    assert loss(task, state, outputs, targets)[0] == pytest.approx(expected)


# Answers.


def test_numbers_are_answered_in_the_unit_of_the_data():
    state = {"labels": "values", "mean": [10.0, 0.0], "spread": [2.0, 0.5]}
    answer = ImageRegression().decode(tf.constant([[1.0, -2.0]]), {}, state)
    np.testing.assert_array_equal(answer["values"], [[12.0, -1.0]])


def test_several_classes_are_chosen_by_their_thresholds():
    state = {"labels": "multi", "classes": list("abc"), "thresholds": [0.9, 0.5, 0.01]}
    answer = text_task().decode(tf.constant(LOGITS), {}, state)
    np.testing.assert_allclose(answer["scores"], sigmoid(LOGITS), rtol=1e-5)
    assert answer["chosen"].numpy().tolist() == (sigmoid(LOGITS) >= [0.9, 0.5, 0.01]).tolist()
    assert answer["classes"].numpy().tolist() == [[b"a", b"b", b"c"]] * 3


def test_thresholds_are_chosen_on_validation_unless_they_are_given(source):
    scores = np.array([[0.9, 0.3, 0.2], [0.8, 0.1, 0.3], [0.2, 0.2, 0.1]], np.float32)
    statistics = {"scores": scores, "labels": np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)}
    task = text_task()
    state = task.calibrate(statistics, adapted(task, source("multi")))
    assert state["thresholds"] == pytest.approx([0.5, 0.25, 0.5])
    fixed = text_task(threshold=0.7)
    given = adapted(fixed, source("multi"))
    assert given["thresholds"] == [0.7] * 3 and not fixed.calibrates(given)


def test_two_classes_have_a_threshold_where_one_is_asked_for(source):
    logits = np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]], np.float32))
    batch = {"targets": tf.constant([0, 1, 1])}
    task = text_task(threshold="f1")
    state = adapted(task, source("single"))
    assert state["threshold"] == 0.5
    statistics = {name: value.numpy() for name, value in task.statistics(logits, batch, state).items()}
    assert statistics["predicted"].tolist() == [0, 0, 1]
    chosen = task.calibrate(statistics, state)
    assert chosen["threshold"] == pytest.approx(0.2)
    again = task.statistics(logits, batch, chosen)
    assert again["predicted"].numpy().tolist() == [0, 1, 1]
    np.testing.assert_allclose(again["confidence"], [0.9, 0.3, 0.6], rtol=1e-5)
    answer = task.decode(logits, {}, chosen)
    assert answer["label"].numpy().tolist() == [b"no", b"yes", b"yes"]
    np.testing.assert_allclose(answer["score"], [0.9, 0.3, 0.6], rtol=1e-5)
    plain = text_task()
    state = adapted(plain, source("single"))
    assert "threshold" not in state and not plain.calibrates(state)


def test_two_classes_have_the_metrics_of_the_second_one(source):
    """GLUE's F1 of MRPC and QQP is that of the class 1."""
    logits = np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]], np.float32))
    task = text_task()
    state = adapted(task, source("single"))
    statistics = task.statistics(logits, {"targets": tf.constant([0, 1, 0, 1])}, state)
    found = task.metrics({name: value.numpy() for name, value in statistics.items()}, state)
    assert (found["f1"], found["roc_auc"]) == (0.5, 0.75)
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_the_baseline_is_one_answer_to_all(source):
    task = text_task()
    state = adapted(task, source("values"))
    target = np.array([[1.0], [5.0]])
    details = task.details({"target": target, "value": target}, state)
    assert details["baseline"] == {"r2": 0.0, "mae": 2.0, "rmse": 2.0}
    labels = np.array([[1, 0, 0], [1, 1, 0]], bool)
    state = adapted(task, source("multi"))
    found = {"labels": labels, "chosen": labels, "scores": labels.astype(np.float32)}
    baseline = task.details(found, state)["baseline"]
    assert baseline["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert baseline["average_precision"] == pytest.approx((1 + 0.5) / 2)


def test_pictures_are_not_read_to_learn_the_labels(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,target\nmissing.png,1.5\ngone.png,2.5\n")
    assert ImageRegression().adapt(Csv(str(path)), np.arange(2))["mean"] == [2.0]

"""`--task.temperature=auto`: chosen on validation, part of the state and so of the served graph, told in the report."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.errors import UserError
from tfpt.metrics.temperature import best_temperature
from tfpt.serving.servable import Servable
from tfpt.tasks.text_classification import TextClassification


def task(**settings):
    return TextClassification(config=TextClassification.Config(temperature="auto", **settings))


def drawn(classes, *, temperature=2.5, examples=2000):
    """Returns logits, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (examples, classes)).astype(np.float32)
    chances = tf.nn.softmax(logits / temperature).numpy().cumsum(axis=1)
    return tf.constant(logits), (random.random((examples, 1)) > chances[:, :-1]).sum(axis=1)


def statistics(made, logits, labels, state):
    found = made.statistics(logits, {"targets": tf.constant(labels)}, state)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("classes", [3, 30])
def test_it_is_chosen_by_logits_and_told_beside_what_was_before(classes):
    made, (logits, labels) = task(), drawn(classes)
    state = {"labels": "single", "classes": [f"c{k}" for k in range(classes)], "temperature": None}
    assert made.calibrates(state)
    raw = statistics(made, logits, labels, state)
    state = made.calibrate(raw, state)
    assert state["temperature"] == best_temperature(logits.numpy(), labels) and "threshold" not in state
    after = statistics(made, logits, labels, state)
    assert "logits" not in after
    np.testing.assert_array_equal(after["predicted"], raw["predicted"])
    before, now = made.metrics(raw, state), made.metrics(after, state)
    details = made.details(after, state)
    assert details["temperature"] == state["temperature"]
    for name in ("expected_calibration_error", "log_loss"):
        assert details[f"{name}_before"] == pytest.approx(before[name], rel=1e-5)
        assert now[name] < 0.8 * before[name]
    wanted = tf.nn.softmax(logits / state["temperature"])
    np.testing.assert_allclose(made.decode(logits, {}, state)["scores"], wanted, rtol=1e-6)


def test_a_threshold_is_chosen_for_the_scores_that_are_answered():
    made, (logits, labels) = task(threshold="f1"), drawn(2)
    state = {"labels": "single", "classes": ["no", "yes"], "temperature": None, "threshold": 0.5, "calibrated": True}
    state = made.calibrate(statistics(made, logits, labels, state), state)
    after = statistics(made, logits, labels, state)
    reached = made.metrics(after, state)["f1"]
    for threshold in np.linspace(0.05, 0.95, 19):
        other = {**state, "threshold": float(threshold)}
        assert made.metrics(statistics(made, logits, labels, other), other)["f1"] <= reached
    fixed = made.calibrate(
        statistics(made, logits, labels, {**state, "temperature": None}),
        {**state, "temperature": None, "threshold": 0.7, "calibrated": False},
    )
    assert fixed["threshold"] == 0.7 and fixed["temperature"] == state["temperature"]


def test_off_is_as_ever():
    made, (logits, labels) = TextClassification(), drawn(3)
    state = {"labels": "single", "classes": ["a", "b", "c"]}
    assert not made.calibrates(state)
    assert {"confidence_before", "logits"}.isdisjoint(statistics(made, logits, labels, state))


@pytest.mark.parametrize(("columns", "rows"), [("a,b", ["1,0", "0,1", "1,1"]), ("target", ["1.5", "2.5", "3.5"])])
def test_it_is_for_one_class_an_example(tmp_path, columns, rows):
    from tfpt.data.csv import Csv

    (tmp_path / "t.csv").write_text("\n".join([f"text,{columns}", *(f"t,{row}" for row in rows)]) + "\n")
    source = Csv(str(tmp_path / "t.csv"), Csv.Config(label=tuple(columns.split(","))))
    with pytest.raises(UserError, match=r"--task\.temperature=auto is for"):
        task().adapt(source, np.arange(3))


@pytest.mark.slow
def test_it_is_in_the_served_graph(fit, pictures, tmp_path):
    run = fit(tmp_path, data=f"folder:{pictures}", epochs=0, task_options={"temperature": "auto"})
    temperature = run.metrics["temperature"]
    assert temperature != 1 and run.metrics["log_loss_before"] > 0
    servable = Servable.load(run.model_folder)
    assert servable.state["temperature"] == temperature
    files = [file.read_bytes() for file in sorted(pictures.rglob("*.png"))[::5]]
    host = servable.outputs.loaded.signatures["host_image"]
    outputs = servable.outputs(host(tf.constant(files))["image"])
    wanted = tf.nn.softmax(outputs / temperature)
    np.testing.assert_allclose(servable.predict({"image": files})["scores"], wanted, atol=1e-6)
    assert "Further numbers" in (run.folder / "report.html").read_text()

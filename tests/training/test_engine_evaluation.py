"""When validation between epochs runs on an engine, what is kept of that decision, and what happens when the engine fails."""

import io
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys.toy_engine import ToyEngine

from tfpt import registry
from tfpt.config import Input
from tfpt.console import Console
from tfpt.layers import lean
from tfpt.training import engine_evaluation
from tfpt.training.assembly import assemble
from tfpt.training.engine_evaluation import EngineEvaluation
from tfpt.training.evaluate import progress_evaluation
from tfpt.training.run_folder import RunFolder

TOY = "toys.toy_engine"
ON_TOY = f"{TOY} float32"
BATCH, BATCHES, TIMES = 4, 3, 10
TIMING = ("seconds", "examples_per_second", "evaluation_seconds")


def needs_openvino():
    if not registry.find("engine", "openvino").version():
        pytest.skip("OpenVINO is not installed")


class Validated:
    """A small classifier, its validation batches, and what is decided and said of them."""

    def __init__(self, precision="float32"):
        backbones = {"trunk": registry.find("backbone", "tiny")("conv")}
        preprocessors = {"trunk": backbones["trunk"].preprocessor(Input(image_size=8))}
        self.task, self.state = registry.find("task", "image_classification")(), {"classes": ["a", "b"]}
        self.model = assemble(self.task, self.state, backbones, preprocessors, precision=precision, seed=0).model
        self.trained_in = precision
        random = np.random.default_rng(0)
        for variable in self.model.trainable_variables[-2:]:
            variable.assign(random.normal(size=variable.shape))
        examples = {
            "inputs": random.integers(0, 255, (BATCH * BATCHES, 8, 8, 3)).astype(np.uint8),
            "targets": np.arange(BATCH * BATCHES) % 2,
            "weight": np.ones(BATCH * BATCHES, np.float32),
            "ok": np.ones(BATCH * BATCHES, bool),
        }
        self.batches = tf.data.Dataset.from_tensor_slices(examples).batch(BATCH, drop_remainder=True)
        self.plain = progress_evaluation(self.task, self.state, self.model, self.batches)
        self.decided = []
        self._stream = io.StringIO()
        self.console = Console(stream=self._stream)

    @property
    def said(self):
        return " ".join(self._stream.getvalue().split())

    def on_engine(self, wanted="auto", **options):
        """Returns an evaluation that decides."""
        options = {"precision": "auto", "times": TIMES, "begun": "", **options}
        return EngineEvaluation(
            self.plain,
            self.model,
            wanted=wanted,
            trained_in=self.trained_in,
            threads=1,
            examples=BATCH * BATCHES,
            keep=self.decided.append,
            **options,
        )

    def replace_model(self, change):
        before = self.model
        self.model = change(before)
        self.model.label_kind, self.model.class_weights = before.label_kind, before.class_weights
        self.plain = progress_evaluation(self.task, self.state, self.model, self.batches)

    def metrics(self, evaluation):
        return evaluation(lambda: None, self.console)

    def assert_same(self, evaluation, rtol=1e-5):
        found, wanted = self.metrics(evaluation), self.metrics(self.plain)
        assert found.keys() == wanted.keys()
        np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=rtol)


@pytest.fixture
def validated():
    return Validated()


@pytest.fixture
def toy(monkeypatch):
    """The one engine beside TensorFlow, where all is worth a look; `toy(seconds)`: what it takes where TensorFlow takes 1."""
    names = registry.names
    monkeypatch.setattr(registry, "names", lambda kind: ["tensorflow", TOY] if kind == "engine" else names(kind))
    monkeypatch.setattr(engine_evaluation, "LEAST_BATCHES", 1)
    monkeypatch.setattr(engine_evaluation, "WORTH_IT", 0.0)

    def takes(seconds):
        monkeypatch.setattr(engine_evaluation, "_seconds", lambda one, *_: seconds if hasattr(one, "stand_in") else 1.0)

    takes(0.1)
    return takes


def test_little_work_stays_on_tensorflow_and_no_engine_is_looked_at(validated, toy, monkeypatch):
    monkeypatch.setattr(engine_evaluation, "StandIn", None)
    monkeypatch.setattr(engine_evaluation, "WORTH_IT", BATCHES * TIMES + 0.5)
    validated.metrics(validated.on_engine())
    monkeypatch.setattr(engine_evaluation, "_seconds", None)
    monkeypatch.setattr(engine_evaluation, "LEAST_BATCHES", BATCHES * TIMES + 1)
    monkeypatch.setattr(engine_evaluation.EngineEvaluation, "_ways", None)
    validated.metrics(validated.on_engine())
    assert (validated.decided, validated.said) == (["tensorflow"] * 2, "")


def test_one_that_saves_time_is_chosen_and_follows_the_weights(validated, toy):
    on_engine = validated.on_engine()
    validated.assert_same(on_engine)
    before = validated.metrics(on_engine)
    validated.model.trainable_variables[0].assign_add(tf.ones_like(validated.model.trainable_variables[0]))
    validated.assert_same(on_engine)
    assert validated.metrics(on_engine)["loss"] != before["loss"]
    assert validated.decided == [ON_TOY]
    assert f"Validation runs on {TOY} ({TOY} 40 examples/s and" in validated.said
    assert "s for the weights each time, tensorflow 4 examples/s)." in validated.said


def test_one_that_hardly_saves_time_is_not_chosen(validated, toy):
    toy(0.95)
    validated.assert_same(validated.on_engine())
    assert validated.decided == ["tensorflow"]
    assert f"Validation runs on tensorflow ({TOY} 4 examples/s" in validated.said


def test_one_that_is_asked_for_is_not_measured(validated, monkeypatch):
    monkeypatch.setattr(engine_evaluation, "_seconds", None)
    validated.assert_same(validated.on_engine(TOY, times=1))
    assert (validated.decided, validated.said) == ([ON_TOY], f"Validation runs on {TOY} (as asked).")


def test_one_that_differs_from_tensorflow_is_not_used(validated, toy, monkeypatch):
    prepare = ToyEngine.prepare

    def wrong(self, graph, **named):
        refresh = prepare(self, graph, **named)
        return lambda values: lambda inputs: [1.01 * one for one in refresh(values)(inputs)]

    monkeypatch.setattr(ToyEngine, "prepare", wrong)
    validated.assert_same(validated.on_engine())
    assert validated.decided == ["tensorflow"]
    assert (
        f"Validation: {TOY} differs from TensorFlow by 0.01 of the largest output, and is not used." in validated.said
    )


def test_one_that_cannot_run_the_model_is_not_used(validated, toy, monkeypatch):
    monkeypatch.setattr(ToyEngine, "prepare", lambda *_, **__: 1 / 0)
    validated.assert_same(validated.on_engine())
    assert f"Validation: {TOY} cannot run this model (division by zero), and is not used." in validated.said
    monkeypatch.setattr(ToyEngine, "prepare", lambda *_, **__: None)
    validated.assert_same(validated.on_engine())
    assert "cannot run this model (it cannot take weights anew)" in validated.said
    monkeypatch.delattr(ToyEngine, "prepare")
    validated.assert_same(validated.on_engine(TOY))
    assert f"Validation runs on tensorflow ({TOY} cannot run it here)." in validated.said
    assert validated.decided == ["tensorflow"] * 3


@pytest.mark.parametrize("good", [1, 2, 3, 4, 5])
def test_one_that_fails_later_is_replaced_with_a_line(validated, toy, monkeypatch, good):
    """It fails on one of the three batches of the first evaluation, which come after the one of the comparison, or later."""
    prepare, left = ToyEngine.prepare, [good]

    def failing(self, graph, **named):
        refresh = prepare(self, graph, **named)

        def compute(values, inputs):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("out of order\nand more")
            return refresh(values)(inputs)

        return lambda values: lambda inputs: compute(values, inputs)

    monkeypatch.setattr(ToyEngine, "prepare", failing)
    on_engine = validated.on_engine()
    for _ in range(3):
        validated.assert_same(on_engine)
    assert validated.decided == [ON_TOY, "tensorflow"]
    assert validated.said.count(f"warning: Validation failed on {TOY} (out of order): TensorFlow goes on") == 1


def test_what_fails_outside_the_engine_is_not_hidden(validated, toy, monkeypatch):
    monkeypatch.setattr(type(validated.task), "metrics", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validated.metrics(validated.on_engine())


def test_a_loss_that_trains_the_model_stays_on_tensorflow(validated, toy, monkeypatch):
    loss = type(validated.task).loss
    monkeypatch.setattr(
        type(validated.task), "loss", lambda self, model, batch, training: loss(self, model, batch, True)
    )
    validated.metrics(validated.on_engine())
    assert validated.decided == ["tensorflow"]
    assert "cannot run this model (the task's loss trains)" in validated.said


def test_a_model_that_reads_variables_of_tensorflow_stays_there(validated, toy):
    """Their values would be those of the first evaluation for ever."""
    factor = tf.Variable(1.0)
    scaled = tf.function(lambda x: x * factor, input_signature=[tf.TensorSpec([None, 2])])
    nested = scaled.get_concrete_function()

    class Scaled(keras.layers.Layer):
        def call(self, inputs):
            return nested(inputs)

    validated.replace_model(lambda model: keras.Model(model.input, Scaled()(model.output)))
    validated.assert_same(validated.on_engine())
    assert validated.decided == ["tensorflow"]
    assert "cannot run this model (the model reads variables that are not its own)" in validated.said


def test_an_engine_gets_no_operations_that_are_of_use_to_tensorflow_only(validated, toy, monkeypatch):
    def normalized(model):
        network = keras.Sequential(
            [keras.layers.Reshape((1, 2)), keras.layers.LayerNormalization(), keras.layers.Flatten()]
        )
        made = keras.Model(model.input, network(model.output))
        lean.make_lean(network)
        return made

    def prepare(self, graph, **options):
        kinds.append({op.type for op in graph.graph.get_operations()})
        return usual(self, graph, **options)

    kinds, usual = [], ToyEngine.prepare
    monkeypatch.setattr(ToyEngine, "prepare", prepare)
    validated.replace_model(normalized)
    validated.assert_same(validated.on_engine())
    assert validated.decided == [ON_TOY]
    assert "Rsqrt" in kinds[0] and "FusedBatchNormV3" not in kinds[0]


def test_what_was_decided_holds(validated, toy, monkeypatch):
    monkeypatch.setattr(engine_evaluation, "_seconds", None)
    validated.assert_same(validated.on_engine(begun=ON_TOY))
    monkeypatch.setattr(engine_evaluation, "StandIn", None)
    validated.assert_same(validated.on_engine(begun="tensorflow"))
    assert (validated.decided, validated.said) == ([], "")


def test_an_engine_that_is_gone_is_said(validated, toy, monkeypatch):
    monkeypatch.setattr(ToyEngine, "version", classmethod(lambda cls: ""))
    validated.assert_same(validated.on_engine(begun=ON_TOY))
    assert validated.decided == ["tensorflow"]
    assert f"warning: The stage began with validation on {TOY}, which cannot run here: TensorFlow" in validated.said


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_runs_what_trains_in_bfloat16_too(precision):
    needs_openvino()
    validated = Validated("bfloat16")
    validated.assert_same(validated.on_engine("openvino", precision=precision), rtol=0.02)
    if precision in registry.find("engine", "openvino").precisions():
        assert validated.decided == [f"openvino {precision}"]


@pytest.fixture
def run(fit, pictures, tmp_path):
    """Trains in a folder: `run("a", engine="tensorflow")`."""
    settings = {"head_epochs": 0, "epochs": 3, "publish": False, "precision": "float32", "ema": 0.5}
    return lambda name, engine="auto", **options: fit(
        tmp_path / name, data=f"folder:{pictures}", **{**settings, **options}, runtime={"engine": engine}
    )


def decided(run):
    return json.loads((run.folder / "engines.json").read_text())


def validations(run):
    rows = [row for row in run.history if row["split"] == "validation"]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def assert_close(run, other):
    ours, theirs = validations(run), validations(other)
    assert len(ours) > 1
    np.testing.assert_allclose([row["loss"] for row in ours], [row["loss"] for row in theirs], rtol=1e-4)


def interrupted(run, name, monkeypatch, **options):
    """Presses Ctrl-C once the first evaluation is written down."""
    add_row = RunFolder.add_row

    def press(self, row):
        add_row(self, row)
        if row["split"] == "validation":
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "add_row", press)
        with pytest.raises(KeyboardInterrupt):
            run(name, **options)


def test_a_run_decides_once_and_goes_on_bit_equal(run, toy, monkeypatch):
    whole = run("whole")
    interrupted(run, "stopped", monkeypatch)
    toy(10.0)
    again = run("stopped")
    assert validations(again) == validations(whole)
    assert decided(again) == decided(whole) == {"fine_tune validation": ON_TOY}
    plain = run("plain", engine="tensorflow")
    assert not (plain.folder / "engines.json").exists()
    assert_close(whole, plain)
    assert whole.metrics["validation"] == plain.metrics["validation"]


def test_openvino_goes_on_bit_equal(run, monkeypatch):
    needs_openvino()
    whole = run("whole", engine="openvino", precision="bfloat16")
    interrupted(run, "stopped", monkeypatch, engine="openvino", precision="bfloat16")
    again = run("stopped", engine="openvino", precision="bfloat16")
    assert validations(again) == validations(whole)
    assert decided(again) == decided(whole)
    assert decided(whole)["fine_tune validation"].startswith("openvino ")


def test_what_is_frozen_and_not_kept_is_part_of_the_graph(run):
    settings = {"head_epochs": 2, "epochs": 0, "feature_cache": "off"}
    chosen = run("toy", engine=TOY, **settings)
    assert decided(chosen)["head validation"] == ON_TOY
    assert_close(chosen, run("plain", engine="tensorflow", **settings))

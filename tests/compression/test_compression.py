"""Smaller models: what they are made of, and what is refused."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpt import compress, flags, run
from tfpt.compression import Options, _results, _subject, quantize
from tfpt.compression._comparison import changed_share
from tfpt.compression.distill import Distill, soft_losses
from tfpt.compression.prune import Prune, cubic, quantile, sparsity_of
from tfpt.compression.quantize import Quantize
from tfpt.config import Input
from tfpt.console import Console
from tfpt.errors import GateError, UserError
from tfpt.registry import find
from tfpt.serving.servable import Servable
from tfpt.tasks import Primary


@pytest.fixture(scope="module")
def model(fit, pictures, tmp_path_factory):
    """A classifier that is right often enough for its metric to be lost."""
    run = fit(tmp_path_factory.mktemp("model"), data=f"folder:{pictures}", epochs=8, head_epochs=0)
    return run.model_folder


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Runs `tfpt compress` in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        with pytest.raises(SystemExit) as exit:
            compress.main([str(argument) for argument in (*argv, "--compress.latency_seconds=0.01")])
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return call


def test_an_int8_file_is_small_and_says_what_it_lost(call, model, tmp_path):
    code, out, err = call(
        f"--model={model}", "--compress=quantize:int8", "--compress.max_drop=0.2", "--compress.output=small"
    )
    assert (code, err) == (0, "")
    folder = tmp_path / "small" / "1"
    assert {file.name for file in folder.iterdir()} == {"model.tflite", "labels.txt", "model_card.md", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    before, plain, small = results["variants"]
    assert plain["metrics"]["accuracy"]["value"] == before["metrics"]["accuracy"]["value"]
    assert plain["bytes"] > 3 * small["bytes"] == 3 * (folder / "model.tflite").stat().st_size
    assert {(row["threads"], row["batch"]) for row in small["latency"]} == {(1, 1), (1, 32), (2, 1), (2, 32)}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] and row["runs"] >= 10 for row in small["latency"])
    assert (folder / "labels.txt").read_text().split() == ["blue", "green", "red"]
    assert (before["max_difference"], before["tolerance"], small["tolerance"]) == (None, None, None)
    assert 0 < plain["max_difference"] <= plain["tolerance"] == 1e-4 < small["max_difference"] < 1
    card = (folder / "model_card.md").read_text()
    assert "litert int8" in out and "litert int8" in card and "- write the file: " in card
    own = (model / "assets.extra" / "model_card.md").read_text()
    assert card.endswith(own.replace("\n## ", "\n### ").replace("# ", "## ", 1))
    for part in ("licence of the weights", "- Data: ", "- Input: ", "### Limits", "### Effort"):
        assert part in card


@pytest.mark.parametrize("wrong", ["float32", "float16"])
def test_a_file_that_is_further_off_than_its_tolerance_is_not_published(call, model, tmp_path, monkeypatch, wrong):
    from tfpt.formats import litert

    convert, whole = litert.convert, litert.Litert.write

    def with_noise(self, servable, bundle, file):
        whole(self, servable, _with_noise(bundle, tmp_path / "noise"), file)

    if wrong == "float32":
        monkeypatch.setattr(litert.Litert, "write", with_noise)
    else:
        monkeypatch.setattr(
            quantize,
            "convert",
            lambda servable, bundle, **how: convert(servable, _with_noise(bundle, tmp_path / "noise")),
        )
    code, _, err = call(
        f"--model={model}", "--compress=quantize:float16", "--compress.max_drop=1", "--compress.output=small"
    )
    assert code == 2
    allowed = {"float32": "0.0001", "float16": "0.1"}[wrong]
    assert f"--compress=quantize:float16: litert {wrong} does not answer what the SavedModel does" in err
    assert f"and {allowed} is allowed; nothing was published" in err
    assert list((tmp_path / "small").iterdir()) == []


@pytest.mark.slow
def test_a_float16_file_is_within_its_tolerance(call, model, tmp_path):
    code, _, err = call(f"--model={model}", "--compress=quantize:float16", "--compress.output=small")
    assert (code, err) == (0, "")
    small = json.loads((tmp_path / "small" / "1" / "results.json").read_text())["variants"][-1]
    assert 0 < small["max_difference"] < 0.5 * small["tolerance"]


def test_what_loses_too_much_is_not_published(call, model, tmp_path, monkeypatch):
    def spoiled(self, subject, file, *, console):
        worse = dataclasses.replace(subject, splits=dataclasses.replace(subject.splits))
        find("format", "litert")().write(worse.servable, _with_noise(worse.bundle, tmp_path / "noise"), file)

    monkeypatch.setattr(Quantize, "write", spoiled)
    code, out, err = call(f"--model={model}", "--compress=quantize:int8", "--compress.output=small")
    assert code == 3
    assert "--compress.max_drop=0.01: accuracy on test went from" in err and "nothing was published" in err
    assert "litert int8" in out
    assert list((tmp_path / "small").iterdir()) == []


def _with_noise(bundle, folder):
    """Returns a bundle whose `outputs` has nothing to do with its inputs."""
    signature = tf.saved_model.load(str(bundle)).signatures["outputs"]
    shape = signature.structured_outputs["outputs"].shape[1:]
    spec = signature.structured_input_signature[1]["inputs"]

    @tf.function(input_signature=[spec])
    def outputs(inputs):
        rows = tf.zeros([tf.shape(inputs)[0], *shape]) + tf.constant([0.0, 0.0, 1.0][: shape[0]])
        return {"outputs": rows + 0.0 * tf.reduce_sum(tf.cast(inputs, tf.float32))}

    module = tf.Module()
    module.outputs = outputs
    tf.saved_model.save(module, str(folder), signatures={"outputs": outputs})
    return folder


@pytest.mark.slow
def test_pruned_weights_are_zero_in_the_bundle(call, model, tmp_path):
    code, _, err = call(
        f"--model={model}",
        "--compress=prune:0.6",
        "--compress.max_drop=1",
        "--compress.epochs=3",
        "--compress.output=half",
    )
    assert (code, err) == (0, "")
    pruned = Servable.load(tmp_path / "half")
    assert pruned.task.__class__.__module__ == "tfpt.tasks.image_classification"
    results = json.loads((tmp_path / "half" / "1" / "assets.extra" / "compression.json").read_text())
    found = sparsity_of(pruned)
    assert results["sparsity"] == found
    kernels = [v.numpy() for v in pruned.outputs.loaded.variables if v.shape.rank == 4 and v.shape[2] >= 8]
    assert kernels and all(np.mean(kernel == 0) == pytest.approx(0.6, abs=0.01) for kernel in kernels)
    first = [v.numpy() for v in pruned.outputs.loaded.variables if v.shape.rank == 4 and v.shape[2] < 8]
    assert not any((kernel == 0).any() for kernel in first)
    before, after = results["variants"]
    assert after["zip_bytes"] < 0.8 * before["zip_bytes"]
    code, _, err = call(f"--model={model}", "--compress=prune:0.3", "--compress.output=half")
    assert code == 2 and "other settings of --compress" in err


@pytest.fixture(scope="module")
def untested(fit, pictures, tmp_path_factory):
    """A classifier without a test split."""
    folder = tmp_path_factory.mktemp("untested")
    run = fit(folder, data=f"folder:{pictures}", epochs=8, head_epochs=0, split=(60, 40, 0))
    return run.model_folder


def test_without_a_test_split_the_other_model_is_held_to_validation(call, untested, tmp_path, monkeypatch):
    asked = []

    def fit_experiment(experiment, **_):
        asked.append(experiment.export)
        return SimpleNamespace(metrics={"validation": {"accuracy": {"value": 0.1}}}, model_folder=None)

    monkeypatch.setattr(run, "fit_experiment", fit_experiment)
    code, _, err = call(f"--model={untested}", "--compress=prune:0.5", "--compress.output=half")
    assert code == 3
    assert "--compress.max_drop=0.01: accuracy on validation went from" in err and "nothing was published" in err
    (export,) = asked
    assert (export.publish, export.require) == (False, "")
    assert not (tmp_path / "half").exists()


@pytest.mark.slow
def test_what_validation_lets_through_is_published_and_again_is_not_done_twice(call, untested, tmp_path):
    half = f"--model={untested}", "--compress=prune:0.5", "--compress.epochs=1", "--compress.output=half"
    code, out, err = call(*half, "--compress.max_drop=1")
    assert (code, err) == (0, "")
    assert "Parity passed" in out
    results = json.loads((tmp_path / "half" / "1" / "assets.extra" / "compression.json").read_text())
    assert results["split"] == "validation"
    assert sparsity_of(Servable.load(tmp_path / "half"))["zeros_in_kernels"] > 0.4
    code, out, _ = call(*half, "--compress.max_drop=1")
    assert code == 0 and "This experiment is finished" in out
    assert [folder.name for folder in (tmp_path / "half").iterdir()] == ["1"]


@pytest.mark.slow
def test_a_student_learns_from_the_model(call, model, tmp_path):
    code, out, err = call(
        f"--model={model}", "--compress=distill", "--compress.student=tiny:conv", "--compress.max_drop=1",
        "--compress.epochs=2", "--compress.image_size=20", "--compress.feature_weight=1", "--compress.output=student",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "The teacher answers" in out
    student = Servable.load(tmp_path / "student")
    assert student.preprocessors["trunk"].size == 20
    assert "teacher" not in json.dumps(student.describe())
    assert len(student.outputs.loaded.variables) == len(Servable.load(model).outputs.loaded.variables)


def test_a_bundle_that_does_not_know_its_data_is_refused(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(UserError, match=r"does not say what it was trained on"):
        _subject.load(str(tmp_path), data=None, trust=(), offline=True, console=Console(quiet=True))


def test_packages_that_a_bundle_names_need_trust(tmp_path):
    extra = tmp_path / "1" / "assets.extra"
    extra.mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").touch()
    (extra / "experiment.flags").write_text("--task=image_classification\n--data=evil.data:x\n--backbone=tiny:conv\n")
    with pytest.raises(UserError, match="add --trust=evil"):
        _subject.load(str(tmp_path), data=None, trust=(), offline=True, console=Console(quiet=True))


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("quantize:int4", "write quantize:int8"),
        ("prune:1", "above 0 and below 1"),
        ("prune:half", "above 0 and below 1"),
        ("distill:tiny", "--compress.student"),
        ("shrink", "there are distill, prune, quantize"),
    ],
)
def test_ways_that_are_not_there(call, way, says):
    code, _, err = call("--model=nowhere", f"--compress={way}")
    assert code == 2 and says in err


def test_the_cubic_schedule():
    shares = [float(cubic(tf.constant(step), sparsity=0.8, until=100)) for step in (0, 50, 100, 200)]
    np.testing.assert_allclose(shares, [0.0, 0.8 * (1 - 0.125), 0.8, 0.8], rtol=1e-6)


def test_the_quantile_is_of_all_magnitudes():
    values = tf.constant([[4.0, 1.0], [3.0, 2.0]])
    assert float(quantile(values, tf.constant(0.5))) == 2.0
    assert float(quantile(values, tf.constant(0.0))) == -1.0


def test_soft_targets():
    teacher, student = tf.constant([[2.0, 0.0], [0.0, 0.0]]), tf.constant([[0.0, 1.0], [0.0, 0.0]])
    for kind in ("single", "multi", "values"):
        np.testing.assert_allclose(soft_losses(teacher, teacher, kind=kind, temperature=3.0), 0.0, atol=1e-5)
        assert soft_losses(student, teacher, kind=kind, temperature=3.0)[0] > 0.1
    p, q = (np.exp(x / 3) / np.exp(x / 3).sum() for x in (np.array([2.0, 0.0]), np.array([0.0, 1.0])))
    expected = 9 * np.sum(p * np.log(p / q))
    np.testing.assert_allclose(soft_losses(student, teacher, kind="single", temperature=3.0)[0], expected, rtol=1e-5)


def test_standardized_logits_are_compared_whatever_their_size():
    random = np.random.default_rng(0)
    teacher, student = (tf.constant(random.normal(0, 9, (6, 4)).astype(np.float32)) for _ in range(2))
    settings = {"kind": "single", "temperature": 2.0, "standardize": True}
    losses = soft_losses(student, teacher, **settings)
    np.testing.assert_allclose(soft_losses(5 * student + 3, 0.5 * teacher - 1, **settings), 5 * losses, rtol=1e-3)
    np.testing.assert_allclose(soft_losses(7 * teacher, teacher, **settings), 0.0, atol=1e-3)
    assert (losses.numpy() > 0.1).all()
    of_two = {**settings, "standardize": False}
    np.testing.assert_array_equal(
        soft_losses(student[:, :2], teacher[:, :2], **settings), soft_losses(student[:, :2], teacher[:, :2], **of_two)
    )


def test_a_student_whose_logits_are_all_equal_can_begin_to_learn():
    teacher, student = tf.constant([[9.0, 0.0, -3.0]]), tf.Variable([[0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = soft_losses(student, teacher, kind="single", temperature=2.0, standardize=True)
    (gradient,) = tape.gradient(loss, student).numpy()
    assert np.isfinite(gradient).all() and gradient[0] < 0 < gradient[1] < gradient[2]


def test_the_gate_is_about_the_direction_of_the_metric():
    row = {"metrics": {"m": {"value": 0.5}}}
    results = {"primary": "m", "split": "test", "variants": [row, row], "max_drop": 0.01}
    _results.check_drop({**results, "drop": 0.01})
    _results.check_drop({**results, "drop": -0.3})
    for drop in (0.02, float("nan")):
        with pytest.raises(GateError):
            _results.check_drop({**results, "drop": drop})


def test_before_and_after_are_measured_on_one_split():
    parsed = SimpleNamespace(given={"compress", "input.split_seed"}, options={})
    with pytest.raises(UserError, match=r"--input\.split_seed does not go with tfpt compress"):
        compress._with_given(None, parsed)
    assert {flag.partition(".")[2] for flag in compress.SPLITTING} <= {f.name for f in dataclasses.fields(Input)}


def test_options_are_checked():
    with pytest.raises(ValueError, match="temperature"):
        Options(temperature=0)
    assert Path(Options().output) == Path()


def test_a_run_of_another_model_is_not_gone_on_with(tmp_path):
    compress._same_way(tmp_path, {"compress": "distill", "model": "1", "max_drop": 0.01})
    compress._same_way(tmp_path, {"compress": "distill", "model": "1", "max_drop": 0.5})
    with pytest.raises(UserError, match="or of another --model"):
        compress._same_way(tmp_path, {"compress": "distill", "model": "2", "max_drop": 0.01})


def test_models_of_one_name_are_told_apart(tmp_path):
    subjects = []
    for version, weights in (("1", b"a"), ("2", b"b"), ("3", b"a")):
        (tmp_path / version / "variables").mkdir(parents=True)
        (tmp_path / version / "assets.extra").mkdir()
        (tmp_path / version / "assets.extra" / "tfpt.json").write_text("{}")
        (tmp_path / version / "variables" / "variables.index").write_bytes(weights)
        subjects.append(SimpleNamespace(bundle=tmp_path / version))
    first, second, copy = map(compress._fingerprint, subjects)
    assert first == copy != second


def test_an_answer_changes_where_the_threshold_says_so():
    def scores(**statistics):
        return SimpleNamespace(statistics={n: np.array(v) for n, v in statistics.items()}, kept={"scores": np.ones(2)})

    assert changed_share(scores(predicted=[0, 1]), scores(predicted=[0, 0])) == 0.5
    several = changed_share(
        scores(chosen=[[True, False], [True, True]]), scores(chosen=[[True, False], [False, False]])
    )
    assert several == 0.5
    assert changed_share(scores(target=[0, 1]), scores(target=[0, 1])) is None


def test_results_without_a_number_are_json(tmp_path):
    row = {
        "name": "m",
        "bytes": 1,
        "zip_bytes": 1,
        "latency": [],
        "seconds": 1.0,
        "max_difference": float("nan"),
        "tolerance": None,
        "metrics": {"m": {"value": float("nan"), "low": None}},
    }
    inputs = {"inputs": np.zeros((1, 4, 4, 3), np.uint8)}
    subject = SimpleNamespace(
        servable=SimpleNamespace(state={"classes": ["a"]}),
        measured=("test", np.arange(1)),
        batches=lambda examples, *, batch_size: iter([inputs]),
        name="m",
        bundle=tmp_path,
    )
    results = {"compress": "x", "split": "test", "primary": "m", "variants": [row], "environment": {}}
    _results.write(results, SimpleNamespace(subject=subject), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)["variants"][0][
        "metrics"
    ] == {"m": {"value": None, "low": None}}


def test_pruning_counts_updates_by_examples():
    train = SimpleNamespace(epochs=5, batch_size=32, steps=0)
    setting = SimpleNamespace(experiment=SimpleNamespace(train=train, input=SimpleNamespace(tokens_per_batch=100)))
    with pytest.raises(UserError, match=r"leave --input\.tokens_per_batch=100 out"):
        Prune("0.5").adapt(setting, None, console=Console(quiet=True))


def subject_of(*given):
    experiment = flags.parse(
        ["--task=image_classification", "--data=digits", "--backbone=tiny:conv", *given]
    ).experiment
    servable = SimpleNamespace(task=experiment.task.make())
    return SimpleNamespace(experiment=experiment, servable=servable, bundle=Path("model"))


def test_a_student_trains_all_of_its_weights_where_the_model_trained_adapters():
    subject = subject_of("--train.lora_rank=4")
    assert subject.experiment.train.lora_rank == 4
    assert Distill().experiment(subject).train.lora_rank == 0
    assert Prune().experiment(subject).input.tokens_per_batch == 0


@pytest.mark.parametrize("unfreeze", ["none", "last:1"])
def test_a_student_of_a_model_that_trained_its_head_alone_trains_whole(unfreeze):
    subject = subject_of("--train.head_epochs=7", "--train.epochs=0", f"--train.unfreeze={unfreeze}")
    train = Distill().experiment(subject).train
    assert (train.epochs, train.unfreeze) == (7, "all")
    assert Distill().experiment(subject).optim.head_multiplier == 4 * subject.experiment.optim.head_multiplier
    assert Distill("", Options(epochs=2)).experiment(subject).train.epochs == 2


def test_a_student_trains_as_long_and_its_head_as_fast_in_every_generation():
    subject = subject_of("--train.head_epochs=7", "--train.epochs=3", "--train.unfreeze=none")
    student = Distill().experiment(subject)
    assert student.train.epochs == 10
    again = Distill().experiment(SimpleNamespace(experiment=student, servable=subject.servable))
    assert (again.train.epochs, again.optim.head_multiplier) == (10, student.optim.head_multiplier)


@pytest.mark.parametrize("value", [0.25, 0.2, float("nan")])
def test_a_model_that_has_learned_nothing_is_refused(tmp_path, value):
    task = SimpleNamespace(
        primary_of=lambda state: Primary("accuracy"),
        details=lambda statistics, state: {
            "baseline": {"accuracy": 0.25},
            "baseline_answer": "the most frequent class, always",
        },
    )
    subject = SimpleNamespace(
        servable=SimpleNamespace(task=task, state={}), measured=("test", np.arange(4)), bundle=tmp_path
    )
    scores = SimpleNamespace(statistics={})
    _results.check_learned(subject, scores, {"accuracy": {"value": 0.3}})
    with pytest.raises(UserError, match=r"0\.2500 for answering the most frequent class every time; train it first"):
        _results.check_learned(subject, scores, {"accuracy": {"value": value}})
    task.details = lambda statistics, state: {"baseline": {"accuracy": 0.25}}
    with pytest.raises(UserError, match="for answering the same every time"):
        _results.check_learned(subject, scores, {"accuracy": {"value": value}})
    task.details = lambda statistics, state: {"baseline": {"accuracy": 1.0}}
    _results.check_learned(subject, scores, {"accuracy": {"value": 1.0}})
    task.primary_of = lambda state: Primary("loss", higher_is_better=False)
    _results.check_learned(subject, scores, {"loss": {"value": value}})


@pytest.mark.slow
def test_what_has_learned_nothing_teaches_nothing(call, fit, pictures, tmp_path):
    """One update at a learning rate of nothing leaves the head as it began: every picture gets the first class."""
    run = fit(tmp_path / "untrained", data=f"folder:{pictures}", epochs=0, steps=1, optim={"head_learning_rate": 1e-30})
    code, _, err = call(f"--model={run.model_folder}", "--compress=distill", "--compress.student=tiny:conv")
    assert code == 2 and "train it first, it has learned nothing yet." in err

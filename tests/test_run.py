"""Whole runs from Python."""

import dataclasses
import io
import json
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

import tfpt
from tfpt import registry
from tfpt.errors import GateError, UserError
from tfpt.training.run_folder import RunFolder


def weights_by_path(folder, count):
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    return [reader.get_tensor(f"variables/{k}/.ATTRIBUTES/VARIABLE_VALUE") for k in range(count)]


def test_a_run_leaves_everything_that_it_promises(trained):
    for name in (
        "experiment.flags", "environment.json", "data.json", "splits.csv", "metrics.jsonl", "metrics.json",
        "predictions.csv", "report.html", "checkpoints", "tensorboard", "log.txt", "status.json",
    ):  # fmt: skip
        assert (trained.folder / name).exists(), name
    assert RunFolder(trained.folder).status()["state"] == "finished"
    assert trained.metrics["parity"]["passed"]
    for split in ("validation", "test"):
        found = trained.metrics[split]["accuracy"]
        assert found["low"] <= found["value"] <= found["high"]
    assert {row["stage"] for row in trained.history} == {"head", "fine_tune"}
    assert trained.history == [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_bfloat16_run_is_measured_and_published_in_float32(trained):
    assert "in bfloat16" in (trained.folder / "log.txt").read_text()
    graph = tf.saved_model.load(str(trained.model_folder)).signatures["outputs"].graph
    functions = [f.graph for f in graph._functions.values()] if hasattr(graph, "_functions") else []
    dtypes = {t.dtype for g in (graph, *functions) for op in g.get_operations() for t in op.outputs}
    assert tf.float32 in dtypes
    assert tf.bfloat16 not in dtypes


def test_a_finished_run_is_not_trained_again(trained, fit, pictures, capsys):
    before = {f: f.stat().st_mtime_ns for f in trained.folder.rglob("*") if f.is_file()}
    again = tfpt.run.fit_experiment(trained.experiment, console=tfpt.console.Console())
    assert "is finished" in capsys.readouterr().out
    assert (again.metrics, again.history, again.model_folder) == (
        trained.metrics, trained.history, trained.model_folder.resolve(),
    )  # fmt: skip
    assert before == {f: f.stat().st_mtime_ns for f in trained.folder.rglob("*") if f.is_file()}


def test_files_and_bytes_are_answered(trained, pictures, tmp_path):
    file = next((pictures / "red").iterdir())
    answer = trained.predict([file, str(file), file.read_bytes()])
    assert len(set(answer["label"].tolist())) == 1
    assert trained.predict(pandas.DataFrame({"path": [str(file)]}))["label"] == answer["label"][:1]
    assert trained.predict(pandas.Series([str(file)], index=[7]))["label"] == answer["label"][:1]
    copy = trained.export(tmp_path / "copy")
    assert (copy / "saved_model.pb").is_file()
    with pytest.raises(UserError, match="cannot be written"):
        trained.export(tmp_path / "copy")
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(file.read_bytes()[:60])
    for wrong, says in (
        ([file, tmp_path / "absent.png"], r"absent.png cannot be read: No such file"),
        ([file, damaged], r"damaged.png cannot be decoded"),
        ([b"no picture"], "example 0 cannot be decoded"),
        (str(file), "takes a list"),
        ([], "at least one"),
    ):
        with pytest.raises(UserError, match=says):
            trained.predict(wrong)


def test_another_experiment_in_the_same_folder_is_refused(trained, fit, pictures):
    with pytest.raises(UserError, match=r"other settings \(.*train.epochs"):
        fit(trained.folder.parent, data=f"folder:{pictures}", epochs=3)


def test_a_flag_that_came_later_had_its_default_then(trained, tmp_path):
    lines = (trained.folder / "experiment.flags").read_text().splitlines()
    (tmp_path / "experiment.flags").write_text(
        "\n".join(line for line in lines if "input.intensity" not in line) + "\n"
    )
    RunFolder(tmp_path).check_same(trained.experiment)
    options = dataclasses.replace(trained.experiment.input, intensity="percentile:1,99")
    with pytest.raises(UserError, match=r"other settings \(input\.intensity\)"):
        RunFolder(tmp_path).check_same(dataclasses.replace(trained.experiment, input=options))


def test_a_metric_that_is_not_defined_is_said(trained, capsys):
    nothing = {"value": None, "low": None, "high": None}  # as metrics.json has it
    metrics = {**trained.metrics, "test": {**trained.metrics["test"], "pearson": nothing}}
    tfpt.run.tell(dataclasses.replace(trained, metrics=metrics), tfpt.console.Console())
    assert re.search(r"test pearson +not defined on these examples", capsys.readouterr().out)


REFUSED = {"require": "accuracy>1", "precision": "bfloat16"}


@pytest.fixture(scope="module")
def refused(fit, pictures, tmp_path_factory):
    """The folder of a run that the gate refused, and what was outside the run before and after it."""
    folder = tmp_path_factory.mktemp("gate")
    shutil.copytree(pictures, folder / "data")
    keras.config.set_dtype_policy("float32")
    np.random.seed(5)
    random.seed(5)
    before = _surroundings()
    with pytest.raises(GateError, match="accuracy is") as error:
        fit(folder, data=f"folder:{folder / 'data'}", **REFUSED)
    return folder, str(error.value), before, _surroundings()


def _surroundings():
    numpy_state = np.random.get_state()
    return {
        "policy": keras.config.dtype_policy().name,
        "python": random.getstate(),
        "numpy": (numpy_state[1].tolist(), numpy_state[2]),
        "tensorflow": tf.compat.v1.get_default_graph().seed,
        "arguments": list(sys.argv),
        "folder": Path.cwd(),
    }


def test_the_gate_publishes_nothing_and_keeps_the_results(refused):
    folder, sentence, *_ = refused
    assert "--export.require=accuracy>1" in sentence
    assert [f for f in (folder / "models").rglob("*") if f.is_file()] == []
    assert not (folder / "models" / "1").exists()
    assert json.loads((folder / "run" / "metrics.json").read_text())["test"]["accuracy"]["value"] <= 1
    assert (folder / "run" / "report.html").exists()
    assert RunFolder(folder / "run").status()["state"] == "failed"


def test_a_run_goes_on_only_with_the_data_that_it_learned_from(refused, fit):
    folder, *_ = refused
    more = folder / "data" / "red" / "more.png"
    more.write_bytes((folder / "data" / "red" / "0.png").read_bytes() + b" ")
    before = {f: f.stat().st_mtime_ns for f in (folder / "run").rglob("*") if f.name != ".lock"}
    with pytest.raises(
        UserError, match=r"--data=folder:.* is not what the run in .* was trained on \(.* then, .* now\)"
    ):
        fit(folder, data=f"folder:{folder / 'data'}", **REFUSED)
    assert before == {f: f.stat().st_mtime_ns for f in (folder / "run").rglob("*") if f.name != ".lock"}
    more.unlink()
    with pytest.raises(GateError):  # it goes on from the trained model
        fit(folder, data=f"folder:{folder / 'data'}", **REFUSED)


def test_without_other_splits_the_export_is_proven_on_training_examples(fit, pictures, tmp_path):
    options = {"data": f"folder:{pictures}", "split": (100, 0, 0), "epochs": 0}
    run = fit(tmp_path, **options)
    assert (run.metrics["parity"]["passed"], run.metrics["parity"]["examples"]) == (True, 36)
    assert run.metrics["examples"] == {"train": 36}
    assert not {"test", "validation", "baseline"} & set(run.metrics)
    assert run.predict([next((pictures / "red").iterdir())])["scores"].shape == (1, 3)
    with pytest.raises(UserError, match=r"--export.require=accuracy>0.5 is asked of the test split, and --input.split"):
        fit(tmp_path / "gate", require="accuracy>0.5", **options)
    assert not (tmp_path / "gate").exists()


def test_a_run_leaves_no_global_state_behind(refused):
    *_, before, after = refused
    assert after == before


def test_arguments_of_the_process_are_not_read(fit, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfpt", "--train.epochs=-1", "--task=nothing"])
    with pytest.raises(UserError, match="folder:"):
        fit(tmp_path, data=f"folder:{pictures / 'absent'}")


def test_mobilenet_with_random_weights_trains_only_what_is_unfrozen(fit, pictures, tmp_path):
    def weights(folder, **options):
        """Returns the final weights of the trunk."""
        run = fit(
            folder,
            data=f"folder:{pictures}",
            backbone="applications:MobileNetV3Small",
            backbone_options={"weights": "none"},
            image_size=32,
            head_epochs=0,
            unfreeze="last:1",
            batch_norm="train",
            publish=False,
            **options,
        )
        (final,) = (run.folder / "checkpoints").glob("final-*")
        # the model's variables come first: the trunk's in their order, then the head's
        return weights_by_path(final, len(network.variables))

    applications = registry.find("backbone", "applications")
    made = applications("MobileNetV3Small", applications.Config(weights="none"))
    network = made.build(32)
    groups = made.groups(network)
    unfrozen = {v.path for layer in groups[-1] for v in layer.variables}
    assert len(groups) > 5
    little, much = weights(tmp_path / "little", steps=1), weights(tmp_path / "much", epochs=2)
    assert [a.shape for a in little] == [tuple(v.shape) for v in network.variables]
    changed = {v.path for v, a, b in zip(network.variables, little, much, strict=True) if not np.array_equal(a, b)}
    assert changed <= unfrozen
    # Random weights leave activations of 1e-10 before the last normalisation: AdamW's epsilon swallows gamma's gradient.
    assert unfrozen - changed <= {"conv_1_bn/gamma"}


def test_too_many_bad_files_stop_the_run_and_few_are_left_out(fit, pictures, tmp_path, capsys):
    shutil.copytree(pictures, tmp_path / "data")
    for name in ("red/3.png", "blue/4.png"):
        (tmp_path / "data" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 of 36 examples cannot be decoded.*--input.max_bad_fraction=0.001") as error:
        fit(tmp_path, data=f"folder:{tmp_path / 'data'}")
    assert "red/3.png" in str(error.value)
    assert "blue/4.png" in str(error.value)
    allowed = {"max_bad_fraction": 0.1, "cache": "off", "epochs": 0, "publish": False}
    run = fit(tmp_path / "allowed", data=f"folder:{tmp_path / 'data'}", **allowed)
    assert run.metrics["failed"] == ["blue/4.png", "red/3.png"]
    assert "2 examples cannot be decoded and are left out: blue/4.png, red/3.png." in capsys.readouterr().out


def test_what_could_not_be_decoded_is_known_to_whoever_goes_on(fit, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    settings = {"data": f"folder:{tmp_path / 'data'}", "max_bad_fraction": 0.2, "epochs": 0, "publish": False}
    names = [f"red/{k}.png" for k in range(4)]  # some of them to learn from: these are not read again
    for name in names:
        (tmp_path / "data" / name).write_bytes(f"no picture: {name}".encode())
    assert fit(tmp_path, **settings).metrics["failed"] == names
    RunFolder(tmp_path / "run").write_status("running")  # as if it had been killed when it had just been trained
    (tmp_path / "run" / "metrics.json").unlink()
    assert fit(tmp_path, **settings).metrics["failed"] == names


def test_a_run_is_loaded_from_its_folder(trained, tmp_path):
    run = tfpt.load(trained.folder)
    assert (run.metrics, run.history, run.model_folder) == (trained.metrics, trained.history, trained.model_folder)
    assert run.experiment == trained.experiment
    with pytest.raises(UserError, match="holds no finished run"):
        tfpt.load(tmp_path)


def test_a_name_is_that_of_the_run(monkeypatch):
    made = []
    monkeypatch.setattr(tfpt.run, "fit_experiment", lambda experiment, console: made.append(experiment))
    toy = {"task": "image_classification", "data": "digits", "backbone": "tiny:conv"}
    tfpt.fit(**toy, name="mine", optim={"name": "sgd"}, output={"report_examples": 0})
    assert (made[0].output.name, made[0].output.run_dir, made[0].optim.name) == ("mine", "runs/mine", "sgd")
    assert made[0].output.report_examples == 0
    with pytest.raises(UserError, match=r'name=sgd: .* write optim=\{"name": "sgd"\}'):
        tfpt.fit(**toy, name="sgd")
    with pytest.raises(UserError, match="name is given twice"):
        tfpt.fit(**toy, name="mine", output={"name": "other"})
    with pytest.raises(UserError, match="head_solver=exact solves the task's own loss"):
        tfpt.fit(**toy, loss=print, head_solver="exact")


def test_lists_and_tables_of_examples_are_asked_by_feature(trained, monkeypatch):
    asked = []

    def predict(raw):
        asked.append(raw)
        return {"label": np.array([b"x"] * len(next(iter(raw.values()))))}

    pair = SimpleNamespace(raw_features=("text", "text_pair"))
    run = dataclasses.replace(trained)  # whose model was not loaded yet
    monkeypatch.setattr(tfpt.Run, "model", SimpleNamespace(preprocessors={"trunk": pair}, predict=predict))
    found = run.predict([("a", "b"), {"text_pair": b"d", "text": "c", "label": 1}])
    assert found["label"].tolist() == [b"x", b"x"]
    wanted = [{"text": [b"a", b"c"], "text_pair": [b"b", b"d"]}]
    assert asked == wanted
    asked.clear()
    run.predict(pandas.DataFrame({"text_pair": ["b", "d"], "label": [0, 1], "text": ["a", "c"]}))
    assert asked == wanted
    with pytest.raises(UserError, match="example 0: the model reads text, text_pair; give a tuple of 2"):
        run.predict(["alone"])


def test_what_the_numbers_rest_on_is_said_aloud(trained):
    said = (trained.folder / "log.txt").read_text()
    assert (
        "Primary metric: accuracy (--task.metric=auto); the weights that are best by it on validation are kept." in said
    )
    stream = io.StringIO()
    tfpt.run.tell(trained, tfpt.console.Console(stream=stream, quiet=True))
    assert stream.getvalue().startswith("warning: ")
    assert "Fewer than 10 test examples in 3 of 3 classes, so their numbers are rough: blue (" in stream.getvalue()
    assert "Fewer than 10 test examples" in trained._repr_html_()

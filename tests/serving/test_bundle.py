"""What a published version folder holds, seen with TensorFlow alone."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.serving.bundle import input_names, publishing, save_trunk
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.assembly import assemble
from tfpt.training.freezing import set_trainable

CLASSES = [b"blue", b"green", b"red"]
SIGNATURES = {"serving_default", "examples", "pixels", "embedding", "outputs", "host_image", "classification"}


@pytest.fixture(scope="module")
def published(fit, pictures, tmp_path_factory):
    """A run whose export has settings of its own."""
    export = {"warmup": "examples", "input_name": ["jpeg"], "version": "time"}
    return fit(tmp_path_factory.mktemp("published"), data=f"folder:{pictures}", epochs=0, export=export)


@pytest.fixture(scope="module")
def loaded(published):
    return tf.saved_model.load(str(published.model_folder))


@pytest.fixture(scope="module")
def files(pictures):
    return [next((pictures / name).iterdir()).read_bytes() for name in ("blue", "green", "red")]


def test_raw_bytes_are_answered_with_label_score_and_classes(loaded, files):
    assert set(loaded.signatures) == SIGNATURES
    answer = loaded.signatures["serving_default"](jpeg=tf.constant(files))
    assert answer["classes"].numpy().tolist() == [CLASSES] * 3
    scores = answer["scores"].numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(answer["score"], scores.max(axis=1))
    assert answer["label"].numpy().tolist() == [CLASSES[k] for k in scores.argmax(axis=1)]


def test_each_weight_is_stored_once(published, loaded):
    reader = tf.train.load_checkpoint(str(published.model_folder / "variables" / "variables"))
    stored = [key for key in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in key]
    assert len(stored) == len(loaded.variables) == 6 * 5 + 2  # convolutions with their normalisation, and the head


def test_serialised_examples_are_answered_as_the_raw_bytes_in_them(loaded, files):
    examples = []
    for file in files:
        example = tf.train.Example()
        example.features.feature["jpeg"].bytes_list.value.append(file)
        examples.append(example.SerializeToString())
    answer = loaded.signatures["examples"](examples=tf.constant(examples))
    wanted = loaded.signatures["serving_default"](jpeg=tf.constant(files))
    assert answer.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(answer[name], value)


def test_pixels_embedding_and_outputs_are_parts_of_the_same_way(loaded, files):
    pictures = tf.stack([tf.io.decode_png(file) for file in files])
    wanted = loaded.signatures["serving_default"](jpeg=tf.constant(files))["scores"]
    found = loaded.signatures["pixels"](image=tf.cast(pictures, tf.float32))["scores"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    embedding = loaded.signatures["embedding"](jpeg=tf.constant(files))["embedding"]
    assert embedding.shape == (3, 128)
    (spec,) = loaded.signatures["outputs"].structured_input_signature[1].values()
    assert (spec.shape.as_list(), spec.dtype) == ([None, 16, 16, 3], tf.uint8)
    logits = loaded.signatures["outputs"](**{spec.name: tf.zeros([2, 16, 16, 3], tf.uint8)})["outputs"]
    assert logits.shape == (2, 3)


def test_warm_up_requests_hold_training_examples_where_that_is_wished(published, pictures):
    raw = {file.read_bytes(): str(file) for file in pictures.rglob("*.png")}
    requests = list(
        tf.data.TFRecordDataset(str(published.model_folder / "assets.extra" / "tf_serving_warmup_requests"))
    )
    logs = [prediction_log_pb2.PredictionLog.FromString(request.numpy()) for request in requests]
    sent = [tf.make_ndarray(log.predict_log.request.inputs["jpeg"]).tolist() for log in logs]
    assert [len(set(values)) for values in sent] == [1, 8] and set(sent[0]) <= set(sent[1]) <= set(raw)
    with (published.folder / "splits.csv").open() as file:
        split = {row["name"]: row["split"] for row in csv.DictReader(file)}
    assert {split[str(Path(raw[value]).relative_to(pictures))] for value in sent[1]} == {"train"}
    assert 0 <= time.time() - int(published.model_folder.name) < 600


@pytest.mark.slow
def test_saved_model_cli_lists_the_signatures(published):
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [program, "show", "--all", "--dir", published.model_folder]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in SIGNATURES:
        assert f"signature_def['{name}']" in shown


def test_the_folder_says_how_it_was_made(published):
    extra = published.model_folder / "assets.extra"
    assert (extra / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert json.loads((extra / "metrics.json").read_text())["test"] == published.metrics["test"]
    assert "tiny:conv" in (extra / "experiment.flags").read_text()
    assert published.metrics["parity"]["passed"] and published.metrics["parity"]["examples"]
    card = (extra / "model_card.md").read_text()
    accuracy = published.metrics["test"]["accuracy"]
    assert f"| accuracy | {accuracy['value']:.4f} | {accuracy['low']:.4f} to {accuracy['high']:.4f} |" in card
    assert "## Limits" in card and "export and proof" in card and "cpu" in card
    assert (
        "| `serving_default` | predict | `jpeg` string [batch] | `classes` string [batch, 3], `label` string [batch], "
        "`score` float32 [batch], `scores` float32 [batch, 3] |"
    ) in card
    assert "| `pixels` | predict | `image` float32 [batch, any, any, 3] | " in card
    assert all(f"| `{name}` | " in card for name in SIGNATURES) and "__saved_model" not in card
    few = [name for name in ("blue", "green", "red") if f"{name} (" in card]
    assert few, "there are under ten test examples of each class"
    assert {file.name for file in (extra / "serving").iterdir()} == {
        "models.config", "batching.config", "compose.yaml", "request.json", "ask_rest.sh", "ask_grpc.py",
    }  # fmt: skip
    assert json.loads((extra / "tfpt.json").read_text())["state"]["classes"] == ["blue", "green", "red"]


def test_the_trunk_can_be_trained_again(published, loaded, files):
    trunk = tf.saved_model.load(str(published.model_folder / "assets.extra" / "trunk"))
    pixels = tf.cast(tf.random.stateless_uniform([4, 16, 16, 3], [1, 2], maxval=256, dtype=tf.int32), tf.uint8)
    inference = trunk(pixels, training=False)["pooled"].numpy()
    assert inference.shape == (4, 128)
    # the run trained the head alone, but whoever takes the trunk may train all of it
    assert len(trunk.trainable_variables) == 6 * 3
    assert len(trunk.variables) == 6 * 5
    moving = [v.numpy() for v in trunk.variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(trunk(pixels, training=True)["pooled"]))
    gradients = tape.gradient(loss, trunk.trainable_variables)
    assert all(g is not None and np.abs(g.numpy()).max() > 0 for g in gradients[::3])
    changed = sum(not np.array_equal(v.numpy(), old) for v, old in zip(trunk.variables, moving, strict=True))
    assert changed == 6 * 2  # moving mean and variance of each normalisation
    assert np.abs(trunk(pixels, training=False)["pooled"].numpy() - inference).max() > 0
    resized = loaded.signatures["embedding"](jpeg=tf.constant(files))["embedding"]
    assert trunk.regularization_losses == []
    assert resized.dtype == tf.float32


@pytest.mark.parametrize(
    "unfreeze", ["last:1", *(pytest.param(what, marks=pytest.mark.slow) for what in ("none", "all"))]
)
def test_a_trunk_is_saved_whole_whatever_was_frozen_and_stays_as_it_was(tmp_path, unfreeze):
    backbone = find("backbone", "tiny")()
    preprocessor = backbone.preprocessor(Input(image_size=8))
    parts = ({"trunk": backbone}, {"trunk": preprocessor})
    made = assemble(ImageClassification(), {"classes": ["a", "b"]}, *parts, precision="float32", seed=0)
    set_trainable(made, unfreeze=unfreeze, train_batch_norm=False)
    trained = [v.path for v in made.model.trainable_variables]
    save_trunk(made.trunks["trunk"], tmp_path / "trunk")
    assert [v.path for v in made.model.trainable_variables] == trained
    trunk = tf.saved_model.load(str(tmp_path / "trunk"))
    assert len(trunk.trainable_variables) == 6 * 3
    pixels = tf.cast(tf.random.stateless_uniform([4, 8, 8, 3], [1, 2], maxval=256, dtype=tf.int32), tf.uint8)
    differ = trunk(pixels, training=True)["pooled"] - trunk(pixels, training=False)["pooled"]
    assert np.abs(differ.numpy()).max() > 1e-3


def test_a_version_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), publishing(tmp_path / "m", "next") as (partial, final):
        (partial / "saved_model.pb").touch()
        assert not final.exists()
        raise RuntimeError
    assert list((tmp_path / "m").iterdir()) == []
    for number in (1, 2):
        with publishing(tmp_path / "m", "next") as (partial, final):
            (partial / "saved_model.pb").touch()
        assert final == tmp_path / "m" / str(number)
        assert (final / "saved_model.pb").exists()
    assert sorted(f.name for f in (tmp_path / "m").iterdir()) == ["1", "2"]


def test_a_version_is_never_overwritten(tmp_path):
    with publishing(tmp_path, "7") as (partial, _):
        (partial / "saved_model.pb").write_text("first")
    with pytest.raises(UserError, match=r"--export.version=7.*exists"), publishing(tmp_path, "7"):
        raise AssertionError
    with publishing(tmp_path, "next") as (_, final):
        pass
    assert final.name == "8"
    assert (tmp_path / "7" / "saved_model.pb").read_text() == "first"


def test_a_version_may_be_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.9)
    with publishing(tmp_path, "time") as (_, final):
        pass
    assert final.name == "1800000000"
    with pytest.raises(UserError, match=r"--export.version=time.*exists"), publishing(tmp_path, "time"):
        raise AssertionError
    (tmp_path / "1800000002").mkdir()
    monkeypatch.setattr(time, "time", lambda: 1_800_000_001.0)
    with pytest.raises(UserError, match="less than version 1800000002"), publishing(tmp_path, "time"):
        raise AssertionError


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"--output.model_dir=.*cannot be written"),
        publishing(tmp_path / "file" / "m", "1"),
    ):
        raise AssertionError


def test_names_are_given_for_one_input_or_by_feature():
    assert input_names((), ["image"]) == {}
    assert input_names(("bytes",), ["image"]) == {"image": "bytes"}
    assert input_names(("image",), ["image"]) == {}
    assert input_names(("text_pair=b", "text=a"), ["text", "text_pair"]) == {"text": "a", "text_pair": "b"}
    assert input_names(("text=text_pair", "text_pair=text"), ["text", "text_pair"])
    for wanted, features, says in (
        (
            ("a",),
            ["text", "text_pair"],
            r"takes text and text_pair; write --export\.input_name=text=NAME,text_pair=NAME",
        ),
        (("a", "b"), ["image"], r"takes image; write --export\.input_name=NAME"),
        (("img=a",), ["image"], "takes image"),
        (("text=a", "text=b"), ["text", "text_pair"], "takes text and text_pair"),
        (("text=text_pair",), ["text", "text_pair"], "two inputs would have the same name"),
    ):
        with pytest.raises(UserError, match=says):
            input_names(wanted, features)


def test_a_bundle_does_not_name_the_examples_that_failed(fit, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "red" / "3.png").write_bytes(b"no picture")
    run = fit(tmp_path, data=f"folder:{tmp_path / 'data'}", max_bad_fraction=0.1, epochs=0)
    assert run.metrics["failed"] == ["red/3.png"]
    extra = run.model_folder / "assets.extra"
    assert json.loads((extra / "metrics.json").read_text())["failed"] == 1
    assert not any("3.png" in file.read_text(errors="replace") for file in extra.iterdir() if file.is_file())

"""What a published version folder holds, seen with TensorFlow alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.serving.bundle import publishing, save_trunk
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.assembly import assemble
from tfpt.training.freezing import set_trainable

CLASSES = [b"blue", b"green", b"red"]


@pytest.fixture(scope="module")
def loaded(trained):
    return tf.saved_model.load(str(trained.model_folder))


@pytest.fixture(scope="module")
def files(pictures):
    return [next((pictures / name).iterdir()).read_bytes() for name in ("blue", "green", "red")]


def test_raw_bytes_are_answered_with_label_score_and_classes(loaded, files):
    answer = loaded.signatures["serving_default"](image=tf.constant(files))
    assert answer["classes"].numpy().tolist() == [CLASSES] * 3
    scores = answer["scores"].numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(answer["score"], scores.max(axis=1))
    assert answer["label"].numpy().tolist() == [CLASSES[k] for k in scores.argmax(axis=1)]


def test_pixels_embedding_and_outputs_are_parts_of_the_same_way(loaded, files):
    pictures = tf.stack([tf.io.decode_png(file) for file in files])
    wanted = loaded.signatures["serving_default"](image=tf.constant(files))["scores"]
    found = loaded.signatures["pixels"](image=tf.cast(pictures, tf.float32))["scores"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    embedding = loaded.signatures["embedding"](image=tf.constant(files))["embedding"]
    assert embedding.shape == (3, 128)
    (spec,) = loaded.signatures["outputs"].structured_input_signature[1].values()
    assert (spec.shape.as_list(), spec.dtype) == ([None, 16, 16, 3], tf.uint8)
    logits = loaded.signatures["outputs"](**{spec.name: tf.zeros([2, 16, 16, 3], tf.uint8)})["outputs"]
    assert logits.shape == (2, 3)


def test_saved_model_cli_lists_the_signatures(trained):
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [program, "show", "--all", "--dir", trained.model_folder]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("serving_default", "pixels", "embedding", "outputs"):
        assert f"signature_def['{name}']" in shown


def test_the_folder_says_how_it_was_made(trained):
    extra = trained.model_folder / "assets.extra"
    assert (extra / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert json.loads((extra / "metrics.json").read_text())["test"] == trained.metrics["test"]
    assert "tiny:conv" in (extra / "experiment.flags").read_text()
    assert "accuracy" in (extra / "model_card.md").read_text()
    assert json.loads((extra / "tfpt.json").read_text())["state"]["classes"] == ["blue", "green", "red"]


def test_the_trunk_can_be_trained_again(trained, loaded, files):
    trunk = tf.saved_model.load(str(trained.model_folder / "assets.extra" / "trunk"))
    pixels = tf.cast(tf.random.stateless_uniform([4, 16, 16, 3], [1, 2], maxval=256, dtype=tf.int32), tf.uint8)
    inference = trunk(pixels, training=False)["pooled"].numpy()
    assert inference.shape == (4, 128)
    # the run trained two of six groups, but whoever takes the trunk may train all of it
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
    resized = loaded.signatures["embedding"](image=tf.constant(files))["embedding"]
    assert trunk.regularization_losses == []
    assert resized.dtype == tf.float32


@pytest.mark.parametrize("unfreeze", ["none", "last:1", "all"])
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


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"--output.model_dir=.*cannot be written"),
        publishing(tmp_path / "file" / "m", "1"),
    ):
        raise AssertionError

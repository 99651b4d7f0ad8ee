"""Two tasks outside tfpt hold the Task signature: a momentum teacher with two views, and two trunks with InfoNCE."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input
from tfpt.registry import find
from tfpt.training.assembly import assemble


def saved_steps(run):
    """Returns the variables of each step's checkpoint, in order of steps."""
    found = []
    for folder in sorted((run.folder / "checkpoints").glob("step-*")):
        reader = tf.train.load_checkpoint(str(folder / "variables"))
        names = reader.get_variable_to_shape_map()
        count = sum(name.startswith("variables/") for name in names)
        found.append([reader.get_tensor(f"variables/{k}/.ATTRIBUTES/VARIABLE_VALUE") for k in range(count)])
    return found


@pytest.fixture(scope="module")
def taught(fit, pictures, tmp_path_factory):
    return fit(
        tmp_path_factory.mktemp("teacher"),
        task="toys.momentum_teacher",
        data=f"folder:{pictures}",
        task_options={"momentum": 0.7},
        augment="auto",
        views=2,
        head_epochs=0,
        epochs=2,
        checkpoint_steps=1,
    )


def test_the_momentum_teacher_is_the_average_of_its_student(taught):
    backbone = find("backbone", "tiny")()
    preprocessor = backbone.preprocessor(Input(image_size=16))
    task = taught.experiment.task.make()
    model = assemble(task, {}, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=0).model
    place = {id(v): k for k, v in enumerate(model.variables)}
    student = [place[id(v)] for v in model.get_layer("trunk").variables]
    teacher = [place[id(v)] for v in model.get_layer("teacher").variables]
    assert student and not set(student) & set(teacher)
    steps = saved_steps(taught)
    updates = 2 * -(-taught.metrics["examples"]["train"] // 8)
    assert len(steps) == 1 + updates
    assert all(np.array_equal(saved, v.numpy()) for saved, v in zip(steps[0], model.variables, strict=False))
    for before, after in itertools.pairwise(steps):
        for s, t in zip(student, teacher, strict=True):
            np.testing.assert_allclose(after[t], 0.7 * before[t] + 0.3 * after[s], rtol=1e-5, atol=1e-6)
    kernel = next(k for k in student if steps[0][k].ndim == 4)
    assert not np.array_equal(steps[0][kernel], steps[-1][kernel])


def test_the_momentum_teacher_is_measured_and_exported(taught, pictures):
    assert taught.metrics["test"]["agreement"]["value"] > 0
    assert taught.metrics["parity"]["passed"]
    file = next((pictures / "red").iterdir())
    embedding = taught.predict([file, file])["embedding"]
    assert embedding.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def paired(fit, tmp_path_factory):
    return fit(
        tmp_path_factory.mktemp("pairs"),
        task="toys.pair_contrast",
        data="toys.coloured_pairs:40",
        backbone="left=tiny:conv,right=tiny:conv",
        head_epochs=3,
        epochs=2,
    )


def test_two_trunks_are_trained_on_pairs(paired):
    rows = [row for row in paired.history if row["split"] == "train"]
    assert {row["stage"] for row in rows} == {"head", "fine_tune"}
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert paired.metrics["test"]["retrieved"]["value"] > 1.5 / paired.metrics["examples"]["test"]


def test_two_trunks_are_exported_and_served(paired):
    assert paired.metrics["parity"]["passed"]
    left, right = find("data", "toys.coloured_pairs")("40")._pairs[0]
    assert set(paired.model.predict({"left": [left], "right": [right]})) == {"similarity"}
    loaded = tf.saved_model.load(str(paired.model_folder))
    embedding = loaded.signatures["embedding"](left=tf.constant([left]), right=tf.constant([right]))
    assert {name: value.shape[1] for name, value in embedding.items()} == {"left": 128, "right": 128}
    pixels = tf.zeros([1, 16, 16, 3], tf.uint8)
    outputs = loaded.signatures["outputs"](left=pixels, right=pixels)
    assert {name: value.shape[1] for name, value in outputs.items()} == {"left": 16, "right": 16}
    for name, file in (("left", left), ("right", right)):
        trunk = tf.saved_model.load(str(paired.model_folder / "assets.extra" / f"trunk-{name}"))
        found = trunk(tf.io.decode_png(file)[tf.newaxis], training=False)["pooled"]
        np.testing.assert_allclose(found, embedding[name], atol=1e-5)

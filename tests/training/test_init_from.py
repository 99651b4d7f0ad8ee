"""Another run's weights: by name and shape, a head's classes by their names."""

import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones import CheckpointHead
from tfpt.backbones.tiny import Tiny
from tfpt.config import Input
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.assembly import assemble
from tfpt.training.init_from import load, open_weights
from tfpt.training.weights_record import describe

CLASSES = ["red", "violet", "blue", "black"]


def make_assembly(classes=CLASSES, argument="conv", task=ImageClassification):
    backbone = Tiny(argument)
    preprocessor = backbone.preprocessor(Input(image_size=16))
    state = {"classes": list(classes), "labels": "single", "counts": [1] * len(classes)}
    made = assemble(task(), state, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=3)
    made.model.get_layer("head").kernel.assign(np.full(made.model.get_layer("head").kernel.shape, 7.0))
    return made, state


@pytest.mark.parametrize("of", ["run", "exported model", "version"])
def test_a_trunk_is_taken_over_and_a_head_class_by_class(trained, of):
    source = {"run": trained.folder, "exported model": trained.model_folder.parent, "version": trained.model_folder}[of]
    assembly, state = make_assembly()
    said = io.StringIO()
    load(assembly, state, str(source), console=Console(stream=said))
    theirs = open_weights(str(trained.folder))  # blue, green, red
    for variable in assembly.trunks["trunk"].weights:
        np.testing.assert_array_equal(variable.numpy(), theirs.read(variable.path))
    head, old = assembly.model.get_layer("head"), theirs.read("head/kernel")
    np.testing.assert_array_equal(head.kernel.numpy()[:, [0, 2]], old[:, [2, 0]])
    assert (head.kernel.numpy()[:, [1, 3]] == 7.0).all()
    np.testing.assert_array_equal(
        head.bias.numpy(), [*theirs.read("head/bias")[2:], 0.0, theirs.read("head/bias")[0], 0.0]
    )
    total = len(assembly.model.weights)
    assert f"{total} of {total} variables taken over" in said.getvalue()
    assert "Of the 4 classes 2 are among its 3" in said.getvalue()


def test_equal_classes_in_another_order_are_matched_by_name(trained):
    assembly, state = make_assembly(["red", "green", "blue"])
    load(assembly, state, str(trained.folder), console=Console(stream=io.StringIO()))
    old = open_weights(str(trained.folder)).read("head/kernel")
    np.testing.assert_array_equal(assembly.model.get_layer("head").kernel.numpy(), old[:, ::-1])


def test_classes_are_known_where_examples_have_several(trained, tmp_path):
    (tmp_path / "checkpoints").symlink_to(trained.folder / "checkpoints")
    record = json.loads((trained.folder / "data.json").read_text())
    assert record["class_names"] == ["blue", "green", "red"]
    (tmp_path / "data.json").write_text(json.dumps({**record, "classes": {}}))
    assembly, state = make_assembly(["red", "black", "blue"])
    load(assembly, state, str(tmp_path), console=Console(stream=io.StringIO()))
    old = open_weights(str(trained.folder)).read("head/kernel")
    kernel = assembly.model.get_layer("head").kernel.numpy()
    np.testing.assert_array_equal(kernel[:, [0, 2]], old[:, [2, 0]])
    assert (kernel[:, 1] == 7.0).all()


def test_what_a_run_began_with_is_written_down(trained, tmp_path):
    assembly, _ = make_assembly()
    layers = ((np.ones((2, 3), np.float32), np.zeros(3, np.float32), "linear"),)
    head = CheckpointHead(layers=layers, endpoint="pooled", classes=("a", "b", "c"), problem="single")
    found = describe(assembly, head=head, init_from=str(trained.folder))
    assert list(found) == ["trunk", "task.head", "train.init_from"]
    other = dataclasses.replace(head, layers=((layers[0][0], layers[0][1] + 1, "linear"),))
    assert describe(assembly, head=other) == {
        "trunk": found["trunk"],
        "task.head": describe(assembly, head=other)["task.head"],
    }
    assert describe(assembly, head=other)["task.head"] != found["task.head"]
    exported = describe(assembly, init_from=str(trained.model_folder))
    assert set(exported) == {"trunk", "train.init_from"}
    retrained = tmp_path / "checkpoints" / "final-00-0000000001"
    retrained.mkdir(parents=True)
    tf.train.Checkpoint(variables=[tf.Variable([1.0])]).write(str(retrained / "variables"))
    (tmp_path / "data.json").write_text("{}")
    assert describe(assembly, init_from=str(tmp_path))["train.init_from"] != found["train.init_from"]


class Wider(ImageClassification):
    """Has a layer that the other run had not, and one that was of another width there."""

    def build(self, trunks, state):
        import keras

        (trunk,) = trunks.values()
        inputs = trunk.host_input()
        hidden = keras.layers.Dense(5, name="hidden")(trunk(inputs)["pooled"])
        return keras.Model(inputs, keras.layers.Dense(len(state["classes"]), name="head")(hidden))


def test_what_was_not_taken_over_is_said_and_stays(trained):
    assembly, state = make_assembly(["blue", "green", "red"], task=Wider)
    hidden = assembly.model.get_layer("hidden").kernel.numpy()
    said = io.StringIO()
    load(assembly, state, str(trained.folder), console=Console(stream=said))
    assert "They have another shape there, and start anew: head/kernel (5x3 here, 128x3 there)." in said.getvalue()
    assert "They are not there, and start anew: hidden/kernel, hidden/bias." in said.getvalue()
    np.testing.assert_array_equal(assembly.model.get_layer("hidden").kernel.numpy(), hidden)
    assert (assembly.model.get_layer("head").kernel.numpy() == 7.0).all()
    assert assembly.model.get_layer("head").bias.numpy().any()


def test_a_model_of_which_nothing_fits_is_refused(tmp_path):
    (tmp_path / "checkpoints" / "final-00-0000000001").mkdir(parents=True)
    (tmp_path / "data.json").write_text("{}")
    other = tf.Variable([1.0], name="elsewhere")
    tf.train.Checkpoint(variables=[other]).write(str(tmp_path / "checkpoints" / "final-00-0000000001" / "variables"))
    assembly, state = make_assembly()
    with pytest.raises(UserError, match=r"--train.init_from=.*: none of its 1 variables"):
        load(assembly, state, str(tmp_path), console=Console(stream=io.StringIO()))


def test_what_is_no_run_or_is_damaged_is_said(trained, tmp_path):
    with pytest.raises(UserError, match=r"--train.init_from=.* is not a run that was trained to its end, nor"):
        open_weights(str(tmp_path))
    broken = tmp_path / "checkpoints" / "final-00-0000000001"
    broken.mkdir(parents=True)
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(UserError, match=r"is damaged"):
        open_weights(str(tmp_path))


def test_a_run_begins_with_them_and_goes_on_with_them(trained, fit, pictures, tmp_path):
    options = {"data": f"folder:{pictures}", "init_from": str(trained.folder), "publish": False, "precision": "float32"}
    run = fit(tmp_path, **options, epochs=0, head_epochs=1, head_learning_rate=1e-9)
    theirs, ours = open_weights(str(trained.folder)), open_weights(str(run.folder))
    for name in theirs.shapes:
        np.testing.assert_allclose(ours.read(name), theirs.read(name), atol=1e-6)
    assert "variables taken over" in (run.folder / "log.txt").read_text()

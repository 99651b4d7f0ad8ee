"""Signatures for TensorFlow Serving's methods Classify and Regress, as its classifier and its regressor want them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from tfpt.config import Input
from tfpt.registry import find
from tfpt.serving import bundle, methods
from tfpt.serving.servable import Servable
from tfpt.training.assembly import assemble

NUMBERS = {"labels": "values", "mean": [3.5], "spread": [2.0]}


def saved(folder, task, state):
    """Writes a version folder of a small model whose head is random."""
    backbone, made = find("backbone", "tiny")("conv"), find("task", task)()
    preprocessors = {"trunk": backbone.preprocessor(Input(image_size=8))}
    parts = assemble(made, state, {"trunk": backbone}, preprocessors, precision="float32", seed=0)
    head = parts.model.get_layer("head")
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    servable = Servable.of(task=made, state=state, model=parts.model, trunks=parts.trunks, preprocessors=preprocessors)
    bundle.save(servable, folder, model_name="m", warmup=())
    return folder


def definitions(folder):
    """Returns the signatures as saved_model.pb has them, by name."""
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].signature_def


def told(tensors):
    return {
        name: (tf.as_dtype(one.dtype), [size.size for size in one.tensor_shape.dim]) for name, one in tensors.items()
    }


@pytest.fixture(scope="module")
def files(pictures):
    return [next((pictures / name).iterdir()).read_bytes() for name in ("blue", "green", "red")]


def asked(folder, name, files):
    """Returns what a signature of a bundle answers to pictures in serialised `tf.Example`s, and what the default answers."""
    loaded = tf.saved_model.load(str(folder))
    examples = []
    for file in files:
        example = tf.train.Example()
        example.features.feature["image"].bytes_list.value.append(file)
        examples.append(example.SerializeToString())
    found = loaded.signatures[name](inputs=tf.constant(examples))
    return found, loaded.signatures["serving_default"](image=tf.constant(files))


@pytest.mark.parametrize(
    ("task", "state", "name", "method", "outputs"),
    [
        (
            "image_classification", {"classes": ["a", "b", "c"]}, "classification", "tensorflow/serving/classify",
            {"classes": ("classes", tf.string, 3), "scores": ("scores", tf.float32, 3)},
        ),
        (
            "image_regression", NUMBERS, "regression", "tensorflow/serving/regress",
            {"outputs": ("values", tf.float32, 1)},
        ),
    ],
)  # fmt: skip
def test_a_bundle_has_a_signature_for_the_method_that_it_can_answer(
    tmp_path, files, task, state, name, method, outputs
):
    folder = saved(tmp_path / "1", task, state)
    found = definitions(folder)
    named = {one: value.method_name for one, value in found.items() if not one.startswith("__")}
    assert {one: value for one, value in named.items() if value != "tensorflow/serving/predict"} == {name: method}
    assert told(found[name].inputs) == {"inputs": (tf.string, [-1])}
    assert told(found[name].outputs) == {ours: (dtype, [-1, size]) for ours, (_, dtype, size) in outputs.items()}
    answer, wanted = asked(folder, name, files)
    assert answer.keys() == outputs.keys()
    for ours, (theirs, _, _) in outputs.items():
        np.testing.assert_array_equal(answer[ours], wanted[theirs])


def test_the_fingerprint_is_that_of_the_signatures_that_are_there(tmp_path):
    folder = saved(tmp_path / "1", "image_regression", NUMBERS)
    first = tf.saved_model.experimental.read_fingerprint(str(folder))
    fingerprinting_utils.write_fingerprint(str(folder))
    again = tf.saved_model.experimental.read_fingerprint(str(folder))
    assert first.saved_model_checksum == again.saved_model_checksum
    assert first.signature_def_hash == again.signature_def_hash


def test_which_answers_allow_which_method():
    def answers(**shapes):
        return {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in shapes.items()}

    classes, scores = ([None, 3], tf.string), ([None, 3], tf.float32)
    both = {"classification": {"classes": "classes", "scores": "scores"}}
    assert methods.outputs_for_methods(answers(classes=classes, scores=scores, chosen=([None, 3], tf.bool))) == both
    assert methods.outputs_for_methods(answers(scores=scores)) == {"classification": {"scores": "scores"}}
    number = {"regression": {"outputs": "values"}}
    assert methods.outputs_for_methods(answers(values=([None, 1], tf.float32))) == number
    assert methods.outputs_for_methods(answers(values=([None], tf.float32))) == number
    for refused in (
        answers(values=([None, 2], tf.float32)),
        answers(values=([None, None], tf.float32)),
        answers(values=(None, tf.float32)),
        answers(values=([None, 1], tf.int32)),
        answers(scores=([None, None, 3], tf.float32)),
        answers(scores=([None, 3], tf.float64)),
        answers(label=([None, None], tf.string), score=([None, None], tf.float32)),
    ):
        assert methods.outputs_for_methods(refused) == {}

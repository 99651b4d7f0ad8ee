import importlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.augment import parse
from tfpt.config import Input
from tfpt.registry import find
from tfpt.training.feature_key import Traced, feature_key

SPEC = tf.TensorSpec((None, 4), tf.float32)
SCRIPT = """
import keras, tensorflow as tf
from tfpt.training.feature_key import Traced
{before}
inputs = keras.Input((4,))
x = keras.layers.BatchNormalization()(keras.layers.Dense(3, activation="swish")(inputs))
model = keras.Model(inputs, keras.layers.Dropout(0.5)(x))
print(Traced.of(lambda x: tf.map_fn(lambda y: y + 1.0, model(x, training=False)), tf.TensorSpec((None, 4), tf.float32)).digest)
"""


def test_a_graph_has_one_digest_in_every_process_whatever_was_made_before():
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(before=before)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for before in ("", "keras.layers.Dense(3)(keras.Input((2,))); tf.function(lambda x: x + 1)(3)")
    }
    assert len(found) == 1
    assert len(found.pop()) == 32


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x * 2.0 + 2.0,
        lambda x: (x + 1.0) * 2.0,
        lambda x: tf.cast(tf.cast(x, tf.bfloat16) * 2.0 + 1.0, tf.float32),
        lambda x: tf.map_fn(lambda y: y * 2.0 + 1.0, x),
        lambda x: (x * 2.0 + 1.0, x * 2.0),
    ],
)
def test_another_graph_has_another_digest(other):
    base = Traced.of(lambda x: x * 2.0 + 1.0, SPEC).digest
    assert Traced.of(lambda y: y * 2.0 + 1.0, SPEC).digest == base
    assert Traced.of(other, SPEC).digest != base


def test_what_does_not_lead_to_the_outputs_does_not_count():
    def used(features, unused):
        tf.reduce_sum(unused["b"])
        return {"x": features * 2.0, "y": unused["a"]}

    traced = Traced.of(used, SPEC, {"a": SPEC, "b": SPEC})
    digest, read = traced.digest, traced.read
    assert read == [True, True, False]
    assert digest == Traced.of(lambda f, u: {"x": f * 2.0, "y": u["a"]}, SPEC, {"a": SPEC, "b": SPEC}).digest


def key(**changed):
    variable = keras.Variable(np.arange(6.0).reshape(2, 3))
    preprocessor = find("backbone", "tiny")().preprocessor(Input(image_size=16))
    given = {
        "digests": [b"a" * 16, b"b" * 16],
        "preprocessors": [preprocessor],
        "graphs": ["g", "h"],
        "variables": [variable],
        "ops": (),
        "seed": 0,
        "views": 1,
        "examples": np.array([4, 7]),
        "engine": "tensorflow 2 float32",
    }
    return feature_key(**{**given, **changed})


def test_the_key_changes_with_everything_that_features_depend_on():
    flip = parse("flip")
    other = find("backbone", "tiny")().preprocessor(Input(image_size=16, resize="crop"))
    keys = [
        key(),
        key(digests=[b"b" * 16, b"a" * 16]),
        key(digests=[b"a" * 16]),
        key(preprocessors=[other]),
        key(graphs=["g", "x"]),
        key(variables=[keras.Variable(np.arange(6.0).reshape(3, 2))]),
        key(variables=[keras.Variable(np.arange(1.0, 7.0).reshape(2, 3))]),
        key(ops=flip),
        key(ops=flip, seed=1),
        key(ops=flip, views=2),
        key(ops=flip, examples=np.array([5, 8])),
        key(ops=parse("random_crop(pad=2)|flip")),
        key(engine="tensorflow 2 bfloat16"),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0] == key(seed=1, examples=np.array([5, 8]))  # without augmentation nothing is random


def test_the_key_changes_with_the_code_of_a_preprocessor(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "their_preprocessor.py"
    file.write_text("from tfpt.preprocessors.image import Image\n\n\nclass Theirs(Image):\n    pass\n")
    theirs = importlib.import_module("their_preprocessor").Theirs(size=16)
    before = key(preprocessors=[theirs])
    assert key(preprocessors=[theirs]) == before
    file.write_text(file.read_text() + "    # decodes otherwise\n")
    assert key(preprocessors=[theirs]) != before

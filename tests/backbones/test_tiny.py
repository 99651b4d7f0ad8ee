import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tfpt.backbones.tiny import Tiny
from tfpt.errors import UserError


def test_the_seed_decides_the_start():
    starts = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        starts.append(Tiny("conv").build(16).get_weights()[0])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_there_is_one_variant():
    with pytest.raises(UserError, match="only tiny:conv"):
        Tiny("big")


def test_it_learns_digits():
    keras.utils.set_random_seed(0)
    digits = load_digits()
    pixels = np.repeat(digits.images[..., None] / 8 - 1, 3, -1).astype(np.float32)
    trunk = Tiny().build(8)
    model = keras.Model(trunk.inputs[0], keras.layers.Dense(10, activation="softmax")(trunk.output["pooled"]))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pixels[:1200], digits.target[:1200], batch_size=32, epochs=3, verbose=0)
    assert model.evaluate(pixels[1200:], digits.target[1200:], verbose=0)[1] > 0.9

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.layers.pixel_scale import PixelScale
from tfpt.layers.trunk import Trunk

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3)).astype(np.uint8)


def make_trunk(*, dtype="float32", endpoints=("pooled",)):
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, dtype=dtype)(inputs)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    pooled = keras.layers.GlobalAveragePooling2D(dtype=dtype)(keras.layers.Dropout(0.5, dtype=dtype)(x))
    network = keras.Model(inputs, {"pooled": pooled, "levels": [x]})
    device = PixelScale(scale=(1 / 255,) * 3, offset=(0.0,) * 3)
    return Trunk(network, device, endpoints=endpoints, shape=(6, 6, 3), dtype_in="uint8")


def test_it_goes_from_host_outputs_to_the_wanted_endpoints():
    trunk = make_trunk(endpoints=("pooled", "levels"))
    found = trunk(PIXELS)
    wanted = trunk.network(PIXELS / np.float32(255), training=False)
    np.testing.assert_allclose(found["pooled"], wanted["pooled"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["levels"][0], wanted["levels"][0], rtol=1e-5, atol=1e-6)
    assert set(make_trunk()(PIXELS)) == {"pooled"}


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_its_endpoints_are_float32_whatever_the_networks_arithmetic(dtype):
    trunk = make_trunk(dtype=dtype, endpoints=("pooled", "levels"))
    assert trunk.network.output["pooled"].dtype == dtype.removeprefix("mixed_")
    found = trunk(PIXELS)
    assert found["pooled"].dtype == found["levels"][0].dtype == tf.float32


def test_a_frozen_trunk_always_infers():
    trunk = make_trunk()
    inference = trunk(PIXELS, training=False)["pooled"].numpy()
    assert not np.array_equal(trunk(PIXELS, training=True)["pooled"].numpy(), inference)
    before = [v.numpy() for v in trunk.variables]
    trunk.network.trainable = False
    inference = trunk(PIXELS, training=False)["pooled"].numpy()
    np.testing.assert_array_equal(trunk(PIXELS, training=True)["pooled"].numpy(), inference)
    for old, variable in zip(before, trunk.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_a_clone_has_equal_values_and_variables_of_its_own():
    trunk = make_trunk()
    trunk.network.layers[1].kernel.assign_add(tf.ones([3, 3, 3, 4]))
    other = trunk.clone("teacher")
    assert other.name == "teacher"
    assert not {id(v) for v in trunk.variables} & {id(v) for v in other.variables}
    np.testing.assert_array_equal(other(PIXELS)["pooled"], trunk(PIXELS)["pooled"])
    before = other(PIXELS)["pooled"].numpy()
    trunk.network.layers[1].kernel.assign_add(tf.ones([3, 3, 3, 4]))
    np.testing.assert_array_equal(other(PIXELS)["pooled"], before)


def test_a_model_stands_on_its_symbolic_input():
    trunk = make_trunk()
    inputs = trunk.host_input()
    assert (inputs.shape, inputs.dtype) == ((None, 6, 6, 3), "uint8")
    model = keras.Model(inputs, trunk(inputs)["pooled"])
    np.testing.assert_array_equal(model(PIXELS), trunk(PIXELS)["pooled"])

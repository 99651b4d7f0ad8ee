"""Lean layers give what Keras' own give: outputs and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.layers import lean

X = np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")


def outputs_and_gradients(layer, x, *, training):
    x = tf.constant(x)
    weights = [v.value for v in layer.trainable_variables]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            takes = "training" in layer._call_signature.parameters
            y = layer(x, training=training) if takes else layer(x)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, tape.gradient(loss, [x, *weights])

    y, gradients = run()
    return [y.numpy(), *(g.numpy() for g in gradients)]


def both(make, x, *, training):
    """Returns what Keras' layer gives and what the lean one gives, with the same weights, none of them at its start."""
    inputs = keras.Input(x.shape[1:])
    network = keras.Model(inputs, make()(inputs))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape))
    layer = network.layers[1]
    usual = outputs_and_gradients(layer, x, training=training)
    lean.make_lean(network)
    assert "call" in vars(layer)
    return usual, outputs_and_gradients(layer, x, training=training)


LAYERS = {
    "dense": lambda: keras.layers.Dense(4),
    "dense without bias": lambda: keras.layers.Dense(4, use_bias=False, activation="gelu"),
    "dense gelu": lambda: keras.layers.Dense(4, activation="gelu"),
    "dense tanh": lambda: keras.layers.Dense(4, activation="tanh"),
    "dense softmax": lambda: keras.layers.Dense(4, activation="softmax"),
    "to heads": lambda: keras.layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
    "to heads, a bias a head": lambda: keras.layers.EinsumDense(
        "abc,cde->abde", output_shape=(None, 2, 3), bias_axes="d", activation="gelu"
    ),
    "normalisation": lambda: keras.layers.LayerNormalization(epsilon=1e-3),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_a_lean_layer_gives_what_keras_gives(name, training):
    for usual, ours in zip(*both(LAYERS[name], X, training=training), strict=True):
        np.testing.assert_allclose(ours, usual, rtol=2e-4, atol=2e-5)


def test_heads_become_one_again():
    heads = np.random.default_rng(2).normal(size=(3, 5, 2, 4)).astype("float32")

    def make():
        return keras.layers.EinsumDense("abcd,cde->abe", output_shape=(None, 7), bias_axes="e")

    for usual, ours in zip(*both(make, heads, training=True), strict=True):
        np.testing.assert_allclose(ours, usual, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["dense gelu", "to heads", "normalisation"])
def test_in_bfloat16_a_lean_layer_is_no_farther_from_float32(name, bfloat16_is_no_farther):
    bfloat16_is_no_farther(lambda: both(LAYERS[name], X, training=True))


def test_what_is_no_single_product_is_left_to_keras():
    for equation in ("abc,cd->abd", "abcd,cde->abe", "abc,cde->abde"):
        assert lean._is_one_product(equation)
    for equation in ("...c,cd->...d", "abc,bcd->abd", "abc,cd->adb", "abc,ad->abcd", "acb,cd->abd"):
        assert not lean._is_one_product(equation)
    inputs = keras.Input((4, 8))
    layers = [
        keras.layers.LayerNormalization(axis=1),
        keras.layers.LayerNormalization(rms_scaling=True),
        keras.layers.LayerNormalization(center=False),
        keras.layers.Dropout(0.1, noise_shape=(None, 1, 8)),
    ]
    x = inputs
    for layer in layers:
        x = layer(x)
    lean.make_lean(keras.Model(inputs, x))
    assert not any("call" in vars(layer) for layer in layers)


def test_settings_and_weights_stay_as_they_are():
    inputs = keras.Input((4, 8))
    network = keras.Model(inputs, LAYERS["to heads"]()(LAYERS["dense gelu"]()(keras.layers.Dense(8)(inputs))))
    before = network.to_json(), [v.path for v in network.variables]
    lean.make_lean(network)
    assert (network.to_json(), [v.path for v in network.variables]) == before


def test_lora_is_part_of_a_lean_layer():
    inputs = keras.Input((5, 8))
    network = keras.Model(inputs, LAYERS["to heads"]()(inputs))
    lean.make_lean(network)
    layer = network.layers[1]
    layer.enable_lora(2)
    before = network(X).numpy()
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    after = network(X).numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(
        after, np.einsum("abc,cde->abde", X, layer.kernel) + layer.bias.numpy(), rtol=1e-4, atol=1e-4
    )


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = tf.ones([200, 500])
    dropped = lean.dropout(x, 0.1, tf.constant([3, 4], tf.int64)).numpy()
    assert np.unique(dropped) == pytest.approx([0.0, 1 / 0.9], abs=1e-4)
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 1e5))
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(dropped, lean.dropout(x, 0.1, tf.constant([3, 4], tf.int64)))
    assert (dropped != lean.dropout(x, 0.1, tf.constant([3, 5], tf.int64)).numpy()).mean() > 0.1
    neighbours = (dropped[:, ::2] == 0) & (dropped[:, 1::2] == 0)
    assert neighbours.mean() == pytest.approx(0.01, abs=4 * np.sqrt(0.0099 / 5e4))


def test_a_lean_dropout_drops_only_in_training_and_differently_each_time():
    inputs = keras.Input((8,))
    network = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(inputs))
    lean.make_lean(network)
    ones = tf.ones([64, 8])
    np.testing.assert_array_equal(network(ones, training=False), ones)
    first, second = network(ones, training=True).numpy(), network(ones, training=True).numpy()
    assert 0.3 < (first == 0).mean() < 0.7 and (first != second).any()

"""Lean layers give what Keras' own give: outputs and gradients."""

import platform

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


def attended(make, *inputs, training=False):
    """Returns what Keras' attention gives and what the lean one gives, with their gradients, with the same weights."""
    layer = make()
    shapes = [keras.Input(x.shape[1:]) for x in inputs[:2]]
    network = keras.Model(shapes, layer(*shapes))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape) * 0.5)
    mask = None if len(inputs) < 3 else inputs[2]

    @tf.function
    def run(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = layer(*given, attention_mask=mask, training=training)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, *tape.gradient(loss, [*given, *(v.value for v in network.trainable_variables)])

    usual = [t.numpy() for t in run(*map(tf.constant, inputs[:2]))]
    lean.make_lean(network)
    assert "_compute_attention" in vars(layer)
    ours = tf.function(run.python_function)(*map(tf.constant, inputs[:2]))
    return usual, [t.numpy() for t in ours]


MASKS = {
    "none": None,
    "padding": np.array([[[1, 1, 1, 1, 1, 0]], [[1, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0]]], np.int32),
    "of each position": np.random.default_rng(5).integers(0, 2, size=(3, 5, 6)).astype(bool),
}
MEMORY = np.random.default_rng(3).normal(size=(3, 6, 8)).astype("float32")


@pytest.mark.parametrize("mask", MASKS)
def test_lean_attention_gives_what_keras_gives(mask):
    given = (X, MEMORY) if MASKS[mask] is None else (X, MEMORY, MASKS[mask])
    usual, ours = attended(lambda: keras.layers.MultiHeadAttention(2, 4, dropout=0.1), *given)
    for theirs, mine in zip(usual, ours, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_in_bfloat16_lean_attention_is_no_farther_from_float32():
    rng = np.random.default_rng(4)
    x, memory = (rng.normal(size=(16, length, 8)).astype("float32") for length in (20, 24))
    mask = rng.random((16, 20, 24)) < 0.7

    def both():
        return attended(lambda: keras.layers.MultiHeadAttention(2, 4, dropout=0.1), x, memory, mask)

    exact = both()[0]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        usual, ours = both()
    finally:
        keras.config.set_dtype_policy("float32")
    for wanted, theirs, mine in zip(exact[:3], usual, ours, strict=False):  # the output, gradients of both inputs
        off = [np.sqrt(np.mean((np.asarray(made, "float32") - wanted) ** 2)) for made in (theirs, mine)]
        assert off[1] < 1.2 * off[0]


def test_lean_attention_drops_in_training_only():
    layer = keras.layers.MultiHeadAttention(2, 4, dropout=0.5, seed=1)
    inputs = keras.Input(X.shape[1:])
    network = keras.Model(inputs, layer(inputs, inputs))
    lean.make_lean(network)
    once, again = (network(X, training=True).numpy() for _ in range(2))
    assert np.abs(once - again).max() > 1e-3
    np.testing.assert_array_equal(network(X, training=False), network(X, training=False))


def test_asked_for_its_weights_attention_is_keras_own():
    layer = keras.layers.MultiHeadAttention(2, 4, dropout=0.1)
    inputs = keras.Input(X.shape[1:])
    network = keras.Model(inputs, layer(inputs, inputs))
    made, weights = layer(X, X, return_attention_scores=True)
    lean.make_lean(network)
    now, ours = layer(X, X, return_attention_scores=True)
    np.testing.assert_array_equal(now, made)
    np.testing.assert_array_equal(ours, weights)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_normalisation_in_a_graph_that_stays_here_is_the_same(dtype):
    layer = keras.layers.LayerNormalization(epsilon=1e-3, dtype={"bfloat16": "mixed_bfloat16"}.get(dtype, dtype))
    inputs = keras.Input(X.shape[1:])
    network = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape))
    lean.make_lean(network)

    @tf.function
    def here(x):
        with lean.graph_that_stays_here():
            return network(x)

    kinds = {op.type for op in here.get_concrete_function(X).graph.get_operations()}
    assert ("FusedBatchNormV3" in kinds) == (platform.machine() in ("x86_64", "AMD64"))
    elsewhere = tf.function(lambda x: network(x))
    kinds = {op.type for op in elsewhere.get_concrete_function(X).graph.get_operations()}
    assert "FusedBatchNormV3" not in kinds
    near = 1e-5 if dtype == "float32" else 0.03
    np.testing.assert_allclose(
        np.asarray(here(X), "float32"), np.asarray(elsewhere(X), "float32"), rtol=near, atol=near
    )

"""Lean layers give what Keras' own give: outputs and gradients."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

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


def attended(layer, x, memory, *, training=False, **options):
    """Returns what Keras' attention gives and what the lean one gives, with the gradients, with the same weights."""
    shapes = [keras.Input(x.shape[1:]), keras.Input(memory.shape[1:])]
    network = keras.Model(shapes, layer(*shapes))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape) * 0.5)

    @tf.function
    def run(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            made = layer(*given, training=training, **options)
            y = made[0] if isinstance(made, tuple) else made
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, *tape.gradient(loss, [*given, *(v.value for v in network.trainable_variables)])

    usual = [t.numpy() for t in run(*map(tf.constant, (x, memory)))]
    lean.make_lean(network)
    assert "_compute_attention" in vars(layer)
    ours = tf.function(run.python_function)(*map(tf.constant, (x, memory)))
    return usual, [t.numpy() for t in ours]


RNG = np.random.default_rng(5)
MEMORY = RNG.normal(size=(3, 6, 8)).astype("float32")
MASKS = {
    "none": {},
    "padding": {"attention_mask": np.array([[[1, 1, 1, 1, 1, 0]], [[1, 0, 0, 0, 0, 0]], [[0] * 6]], np.int32)},
    "of each position": {"attention_mask": RNG.integers(0, 2, size=(3, 5, 6)).astype(bool)},
    "of each head": {"attention_mask": RNG.integers(0, 2, size=(3, 2, 5, 6)).astype(bool)},
    "causal": {"use_causal_mask": True},
    "causal and padding": {"use_causal_mask": True, "attention_mask": np.array([[[1, 1, 0, 0, 0, 0]]] * 3, bool)},
    "weights asked for": {"return_attention_scores": True},
}


@pytest.mark.parametrize("mask", MASKS)
def test_lean_attention_gives_what_keras_gives(mask):
    layer = keras.layers.MultiHeadAttention(2, 4, dropout=1e-9)  # so little that training and its absence give the same
    for training in (False, True):
        usual, ours = attended(layer, X, MEMORY, training=training, **MASKS[mask])
        for theirs, mine in zip(usual, ours, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)
        del layer._compute_attention


def test_lean_attention_of_a_decoder_gives_what_kerashubs_gives():
    layer = keras_hub.layers.CachedMultiHeadAttention(2, 4, dropout=0.1)
    for mask in (MASKS["padding"], {"attention_mask": np.array([[[0.3] * 3 + [0.7] * 3] * 5] * 3, np.float32)}):
        usual, ours = attended(layer, X, MEMORY, **mask)
        for theirs, mine in zip(usual, ours, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)
        del layer._compute_attention


def test_attention_that_is_someones_own_stays_as_it_is():
    class Warm(keras.layers.MultiHeadAttention):
        def _masked_softmax(self, scores, mask=None):
            return super()._masked_softmax(scores / 2.0, mask)

    inputs = keras.Input(X.shape[1:])
    without_dropout, warm, replaced, never_called = (
        keras.layers.MultiHeadAttention(2, 4),
        Warm(2, 4, dropout=0.1),
        keras.layers.MultiHeadAttention(2, 4, dropout=0.1),
        keras.layers.MultiHeadAttention(2, 4, dropout=0.1),
    )
    replaced._compute_attention = own = replaced._compute_attention
    x = inputs
    for layer in (without_dropout, warm, replaced):
        x = layer(x, x)
    network = keras.Model(inputs, x)
    network.never_called = never_called
    lean.make_lean(network)
    assert not any("_compute_attention" in vars(layer) for layer in (without_dropout, warm, never_called))
    assert replaced._compute_attention is own


def test_in_bfloat16_lean_attention_is_no_farther_from_float32(in_float32_and_bfloat16):
    rng = np.random.default_rng(4)
    x, memory = (rng.normal(size=(16, length, 8)).astype("float32") for length in (20, 24))
    mask = rng.random((16, 20, 24)) < 0.7

    def both():
        return attended(keras.layers.MultiHeadAttention(2, 4, dropout=0.1), x, memory, attention_mask=mask)

    exact, usual, ours = in_float32_and_bfloat16(both)
    for k in range(3):  # the output and the inputs' gradients; that of the keys' bias is 0 but for rounding
        off = [np.sqrt(np.mean((np.asarray(made[k], "float32") - exact[k]) ** 2)) for made in (usual, ours)]
        assert off[1] < 1.2 * off[0]


def test_lean_attention_drops_in_training_only():
    layer = keras.layers.MultiHeadAttention(2, 4, dropout=0.5, seed=1)
    inputs = keras.Input(X.shape[1:])
    network = keras.Model(inputs, layer(inputs, inputs))
    lean.make_lean(network)
    once, again = (network(X, training=True).numpy() for _ in range(2))
    assert np.abs(once - again).max() > 1e-3
    np.testing.assert_array_equal(network(X, training=False), network(X, training=False))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_normalisation_in_a_graph_that_stays_here_is_one_operation(dtype):
    layer = keras.layers.LayerNormalization(epsilon=0.3, dtype={"bfloat16": "mixed_bfloat16"}.get(dtype, dtype))
    inputs = keras.Input((None, X.shape[-1]), dtype=dtype)
    network = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape))
    lean.make_lean(network)

    def here(x):
        with lean.graph_that_stays_here():
            return network(x)

    x = tf.cast(X, dtype)
    usual, _ = run_and_kinds(network.__call__, x, (None, None, 8))
    made, kinds = run_and_kinds(here, x, (None, None, 8))
    assert ("_MklLayerNorm" in kinds) == lean.one_dnn_is_on()
    near = 1e-5 if dtype == "float32" else 0.03
    np.testing.assert_allclose(made, usual, rtol=near, atol=near)
    # Of a known shape TensorFlow would not recognise it.
    assert not {"_MklLayerNorm", "FusedBatchNormV3", "_MklNativeFusedBatchNormV3"} & run_and_kinds(here, x, x.shape)[1]


def run_and_kinds(function, x, shape):
    """Returns what a function makes, in float32, and the kinds of operations that its graph has when it runs."""
    compiled = tf.function(function, autograph=False, input_signature=[tf.TensorSpec(shape, x.dtype)])
    context.context().enable_run_metadata()
    try:
        made = compiled(x)
        graphs = context.context().export_run_metadata().function_graphs
    finally:
        context.context().disable_run_metadata()
    nodes = [node for one in graphs for node in one.post_optimization_graph.node]
    assert nodes
    return np.asarray(made, "float32"), {node.op for node in nodes}

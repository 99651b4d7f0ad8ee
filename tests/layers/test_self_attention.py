"""Attention with one product gives what Keras' own gives, and leaves to Keras what it does not know."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.layers.lean import make_lean

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 5, 8)).astype("float32")
MASKS = {
    "none": {},
    "padding": {"attention_mask": np.arange(5)[None, None] < np.array([5, 3, 1])[:, None, None]},
    "some": {"attention_mask": (RANDOM.random((3, 5, 5)) < 0.5) | np.eye(5, dtype=bool)},
    "a mask a head": {"attention_mask": (RANDOM.random((3, 2, 5, 5)) < 0.7) | np.eye(5, dtype=bool)},
    "causal": {"use_causal_mask": True},
    "causal and padding": {"use_causal_mask": True, "attention_mask": np.tile(np.arange(5) < 3, (3, 5, 1))},
}


def attention(**more):
    layer = keras.layers.MultiHeadAttention(2, 4, **more)
    layer.build(X.shape, X.shape)
    random = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    return layer


def lean(layer):
    inputs = keras.Input(X.shape[1:])
    make_lean(keras.Model(inputs, layer(inputs, inputs)))
    return layer


def outputs_and_gradients(layer, **options):
    x = tf.constant(X)
    weights = [v.value for v in layer.trainable_variables]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, x, **options)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, tape.gradient(loss, [x, *weights])

    y, gradients = run()
    return [y.numpy(), *(g.numpy() for g in gradients)]


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("more", [{}, {"use_bias": False, "output_shape": 3}], ids=["usual", "no bias"])
def test_it_gives_what_keras_gives(name, more):
    layer = attention(**more)
    usual = outputs_and_gradients(layer, **MASKS[name])
    ours = outputs_and_gradients(lean(layer), **MASKS[name])
    assert "call" in vars(layer)
    for made, wanted in zip(ours, usual, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=2e-4, atol=2e-5)


def test_in_bfloat16_it_is_no_farther_from_float32():
    exact = outputs_and_gradients(attention(), **MASKS["padding"])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = attention()
        usual = outputs_and_gradients(layer, **MASKS["padding"])
        ours = outputs_and_gradients(lean(layer), **MASKS["padding"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert ours[0].dtype == usual[0].dtype
    for wanted, theirs, mine in zip(exact, usual, ours, strict=True):
        off = [np.square(np.asarray(made, "float32") - wanted).mean() for made in (theirs, mine)]
        assert off[1] < 2 * off[0]


def test_who_may_attend_to_nothing_attends_to_all_alike():
    layer, nothing = lean(attention()), np.zeros((3, 5, 5), bool)
    values = layer.value_dense(X).numpy().mean(axis=1, keepdims=True)
    wanted = np.tile(layer.output_dense(values), (1, 5, 1))
    np.testing.assert_allclose(layer(X, X, attention_mask=nothing), wanted, rtol=1e-4, atol=1e-5)


def test_its_dropout_drops_in_training_only():
    layer = lean(attention(dropout=0.5, seed=1))
    np.testing.assert_array_equal(layer(X, X, training=False), layer(X, X))
    assert np.abs(layer(X, X, training=True).numpy() - layer(X, X, training=True).numpy()).max() > 1e-3


def test_lora_is_part_of_it():
    layer = lean(attention())
    before = layer(X, X).numpy()
    layer.query_dense.enable_lora(2)
    layer.query_dense.lora_kernel_b.assign(np.ones(layer.query_dense.lora_kernel_b.shape))
    usual = attention()
    for ours, theirs in ((layer.key_dense, usual.key_dense), (layer.value_dense, usual.value_dense)):
        np.testing.assert_array_equal(ours.kernel, theirs.kernel)
    usual.query_dense.kernel.assign(layer.query_dense.kernel)
    after = layer(X, X).numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, usual(X, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer(X, X[:, :4]),
        lambda layer: layer(X, X, key=X + 1.0),
        lambda layer: layer(X, X, return_attention_scores=True)[1],
        lambda layer: layer(keras.layers.Masking()(np.where(np.arange(5)[None, :, None] < 3, X, 0.0)), X),
    ],
    ids=["two sequences", "other keys", "scores", "Keras' masks"],
)
def test_the_rest_is_left_to_keras(call):
    layer = attention()
    wanted = call(layer)
    np.testing.assert_allclose(call(lean(layer)), wanted, rtol=1e-5, atol=1e-6)


def test_other_layers_stay_as_they_are():
    for layer in (attention(value_dim=2), attention(use_gate=True)):
        assert "call" not in vars(lean(layer))

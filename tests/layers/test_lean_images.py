"""Lean layers of image networks give what Keras' own give: maps, gradients, moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.layers.lean import make_lean

MAPS = np.random.default_rng(0).normal(1.0, 2.0, size=(4, 7, 9, 6)).astype("float32")

NORMALISATIONS = {
    "usual": lambda: keras.layers.BatchNormalization(),
    "without scale": lambda: keras.layers.BatchNormalization(scale=False, epsilon=1e-4),
    "without shift": lambda: keras.layers.BatchNormalization(center=False, momentum=0.5),
}
CONVOLUTIONS = {
    "pointwise": lambda: keras.layers.Conv2D(5, 1),
    "pointwise without bias": lambda: keras.layers.Conv2D(5, 1, use_bias=False, padding="same"),
    "pointwise relu": lambda: keras.layers.Conv2D(5, 1, activation="relu"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(5, padding="same"),
    "depthwise without bias": lambda: keras.layers.DepthwiseConv2D(7, padding="same", use_bias=False),
    "depthwise even": lambda: keras.layers.DepthwiseConv2D(4, padding="same", activation="relu"),
    "depthwise oblong": lambda: keras.layers.DepthwiseConv2D((4, 5), padding="same"),
}
LEFT_ALONE = {
    "renorm": lambda: keras.layers.BatchNormalization(renorm=True),
    "convolution": lambda: keras.layers.Conv2D(5, 3),
    "strided": lambda: keras.layers.Conv2D(5, 1, strides=2),
    "grouped": lambda: keras.layers.Conv2D(6, 1, groups=2),
    "depthwise of three": lambda: keras.layers.DepthwiseConv2D(3, padding="same"),
    "depthwise strided": lambda: keras.layers.DepthwiseConv2D(5, strides=2, padding="same"),
    "depthwise valid": lambda: keras.layers.DepthwiseConv2D(5),
    "depthwise multiplied": lambda: keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2),
}


def network_of(make, **shape):
    inputs = keras.Input(**(shape or {"shape": MAPS.shape[1:]}))
    network = keras.Model(inputs, make()(inputs))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.uniform(0.5, 1.5, size=variable.shape))  # a variance is positive
    return network, network.layers[1]


def outputs_and_gradients(network, layer, *, training):
    x = tf.constant(MAPS)
    weights = [v.value for v in layer.trainable_variables]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = network(x, training=training)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, tape.gradient(loss, [x, *weights])

    y, gradients = run()
    return [y.numpy(), *(g.numpy() for g in gradients), *(v.numpy() for v in layer.variables)]


def both(make, *, training, trainable=True):
    """Returns what Keras' layer gives and what the lean one gives."""
    for lean in (False, True):
        network, layer = network_of(make)
        layer.trainable = trainable
        if lean:
            make_lean(network)
            assert "call" in vars(layer)
        yield outputs_and_gradients(network, layer, training=training)


def assert_same(make, **mode):
    for usual, ours in zip(*both(make, **mode), strict=True):
        np.testing.assert_allclose(ours, usual, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_batch_normalisation_is_that_of_keras(name, training, trainable):
    assert_same(NORMALISATIONS[name], training=training, trainable=trainable)


def test_what_is_normalised_in_training_is_one_operation():
    network, layer = network_of(NORMALISATIONS["usual"])
    make_lean(network)
    for trainable, statistics_move in ((True, True), (False, False)):
        layer.trainable = trainable
        graph = tf.function(lambda x: network(x, training=True)).get_concrete_function(tf.TensorSpec(MAPS.shape)).graph
        operations = [operation.type for operation in graph.get_operations()]
        assert operations.count("FusedBatchNormV3") == 1
        assert ("AssignVariableOp" in operations) == statistics_move


def test_batch_normalisation_over_replicas_stays_that_of_keras():
    network, layer = network_of(NORMALISATIONS["usual"])
    make_lean(network)
    layer.synchronized = True
    graph = tf.function(lambda x: network(x, training=True)).get_concrete_function(tf.TensorSpec(MAPS.shape)).graph
    assert "FusedBatchNormV3" not in [operation.type for operation in graph.get_operations()]


def test_batch_normalisation_of_vectors_stays_that_of_keras():
    rows = MAPS.reshape(-1, MAPS.shape[-1])
    made = []
    for lean in (False, True):
        network, _ = network_of(NORMALISATIONS["usual"], shape=(MAPS.shape[-1],))
        if lean:
            make_lean(network)
        made.append(network(rows, training=True).numpy())
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_is_that_of_keras(name, training):
    assert_same(CONVOLUTIONS[name], training=training)


@pytest.mark.parametrize("maps", [MAPS, np.random.default_rng(2).normal(0.5, 1.0, (16, 28, 28, 3)).astype("float32")])
@pytest.mark.parametrize(
    ("name", "trainable"), [("usual", True), ("usual", False), ("pointwise", True), ("depthwise", True)]
)
def test_in_bfloat16_a_lean_layer_is_no_farther_from_float32(
    monkeypatch, name, trainable, maps, bfloat16_is_no_farther
):
    monkeypatch.setitem(globals(), "MAPS", maps)
    make = {**NORMALISATIONS, **CONVOLUTIONS}[name]
    bfloat16_is_no_farther(lambda: both(make, training=True, trainable=trainable))


def test_nothing_is_between_a_convolution_and_what_follows_where_nothing_trains():
    inputs = keras.Input(MAPS.shape[1:])
    x = keras.layers.Conv2D(5, 1, use_bias=False)(keras.layers.DepthwiseConv2D(5, padding="same")(inputs))
    network = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    make_lean(network)
    for training in (True, False):
        traced = tf.function(lambda x, mode=training: network(x, training=mode))
        graph = traced.get_concrete_function(tf.TensorSpec(MAPS.shape)).graph
        assert ("IdentityN" in [operation.type for operation in graph.get_operations()]) == training


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_would_not_be_faster_is_left_alone(name):
    network, layer = network_of(LEFT_ALONE[name])
    make_lean(network)
    assert "call" not in vars(layer)

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones.tiny import Tiny
from tfpt.config import Input
from tfpt.layers.trunk import Trunk


@pytest.fixture
def trunk():
    keras.utils.set_random_seed(0)
    backbone = Tiny("transformer")
    preprocessor = backbone.preprocessor(Input(max_length=24))
    network = backbone.build(preprocessor.size)
    shape, dtype = preprocessor.host_spec()
    device = preprocessor.device()
    return preprocessor, Trunk(network, device, endpoints=("pooled", "sequence"), shape=shape, dtype_in=dtype)


def test_endpoints_groups_and_padding(trunk):
    preprocessor, layer = trunk
    short, longer = "one two", "three four five six seven, eight"
    together, _ = preprocessor.host_batch(tf.constant([short, longer]))
    alone, _ = preprocessor.host_batch(tf.constant([short]))
    assert alone.shape[1] < together.shape[1]
    np.testing.assert_allclose(layer(together)["pooled"][0], layer(alone)["pooled"][0], atol=1e-5)
    outputs = layer(together)
    assert outputs["pooled"].shape == (2, 64)
    assert outputs["sequence"].shape == (2, together.shape[1], 64)
    backbone = Tiny("transformer")
    grouped = [id(part) for group in backbone.groups(layer.network) for part in group]
    assert sorted(grouped) == sorted(id(part) for part in layer.network.layers if part.weights)
    assert [group[0].name.partition("_")[0] for group in backbone.groups(layer.network)] == [
        *("embedding", "block0", "block1", "last")
    ]
    assert backbone.cuts(layer.network) == []


def test_the_order_of_words_matters(trunk):
    preprocessor, layer = trunk
    tokens, _ = preprocessor.host_batch(tf.constant(["dog bites man", "man bites dog"]))
    first, second = layer(tokens)["pooled"].numpy()
    assert np.abs(first - second).max() > 1e-4


def test_it_learns_which_texts_are_glad(trunk):
    preprocessor, layer = trunk
    random = np.random.default_rng(0)
    glad, sad = ["lovely", "witty", "gorgeous", "warm"], ["dull", "grim", "tedious", "cold"]
    labels = random.integers(0, 2, 400)
    texts = [
        " ".join(random.permutation([*random.choice(["film", "plot", "cast", "it", "was"], 6), random.choice(words)]))
        for words in ((sad, glad)[label] for label in labels)
    ]
    tokens = preprocessor.host_batch(tf.constant(texts))[0].numpy()
    inputs = layer.host_input()
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)["pooled"]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    model.fit(tokens[:320], labels[:320], batch_size=32, epochs=4, verbose=0)
    assert model.evaluate(tokens[320:], labels[320:], verbose=0)[1] > 0.95


def test_a_batch_without_any_token_is_answered(trunk):
    _, layer = trunk
    pooled = layer(tf.zeros([3, 0, 2], tf.int32))["pooled"].numpy()
    assert pooled.shape == (3, 64)
    assert np.isfinite(pooled).all()

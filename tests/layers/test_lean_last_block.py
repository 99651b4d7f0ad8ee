"""A last block that is computed for the first token gives what the whole block gives there: outputs and gradients."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones._token_network import FAMILIES, network
from tfpt.layers.lean import make_lean
from tfpt.layers.lean_last_block import keep_first_token
from tfpt.training import assembly

IDS = np.random.default_rng(0).integers(1, 60, (3, 7))
GIVEN = {
    "token_ids": IDS,
    "segment_ids": np.zeros_like(IDS),
    "padding_mask": np.arange(7) < np.array([[7], [3], [1]]),
}


def bert(*, pooling="cls", normalize_first=False, dropout=0.1):
    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=60,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        max_sequence_length=16,
        dropout=dropout,
    )
    for layer in backbone.layers:
        if layer.name.startswith("transformer_layer"):
            layer.normalize_first = normalize_first
    made = network(backbone, FAMILIES["BertBackbone"], pooling=pooling, name="bert")
    rng = np.random.default_rng(2)
    for variable in made.variables:
        if variable.dtype == "float32":
            variable.assign(rng.normal(0, 0.5, variable.shape))
    return made


def pooled_and_gradients(made, *, training=False):
    with tf.GradientTape() as tape:
        pooled = made({key: tf.constant(value) for key, value in GIVEN.items()}, training=training)["pooled"]
        loss = tf.reduce_sum(tf.sin(pooled))
    gradients = tape.gradient(loss, [v.value for v in made.trainable_variables])
    return pooled.numpy(), [tf.convert_to_tensor(0.0 if g is None else g).numpy() for g in gradients]


@pytest.mark.parametrize("normalize_first", [False, True])
@pytest.mark.parametrize("lean", [False, True])
def test_the_first_token_is_what_it_was(lean, normalize_first):
    made = bert(normalize_first=normalize_first, dropout=0.0)
    before, gradients = pooled_and_gradients(made, training=True)
    weights = [v.path for v in made.variables]
    if lean:
        make_lean(made)
    keep_first_token(made)
    after, gradients_after = pooled_and_gradients(made, training=True)
    np.testing.assert_allclose(after, before, atol=1e-5)
    for ours, usual in zip(gradients_after, gradients, strict=True):
        np.testing.assert_allclose(ours, usual, rtol=1e-3, atol=1e-5)
    assert [v.path for v in made.variables] == weights


def test_dropout_still_drops():
    made = bert(dropout=0.3)
    keep_first_token(made)
    first, second = (pooled_and_gradients(made, training=True)[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(*(pooled_and_gradients(made)[0] for _ in range(2)))


@pytest.mark.parametrize("pooling", ["mean", "last", "pooler"])
def test_what_reads_other_tokens_stays(pooling):
    made = bert(pooling=pooling)
    before = made(GIVEN)
    keep_first_token(made)
    for name, value in made(GIVEN).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_block_of_someones_own_stays():
    made = bert()
    block = made.get_layer("transformer_layer_1")
    block.call = lambda inputs, padding_mask=None, training=None: inputs * 2.0
    keep_first_token(made)
    assert made(GIVEN)["sequence"].shape == (3, 7, 8)


def test_a_block_that_is_asked_for_more_is_kerashubs():
    made = bert()
    block = made.get_layer("transformer_layer_1")
    x = np.random.default_rng(3).normal(size=(3, 7, 8)).astype("float32")
    every = np.ones((3, 7, 7), bool)
    usual = block(x), block(x, attention_mask=every, padding_mask=GIVEN["padding_mask"])
    keep_first_token(made)
    assert block(x, padding_mask=GIVEN["padding_mask"]).shape == (3, 1, 8)
    np.testing.assert_allclose(block(x), usual[0], atol=1e-5)
    np.testing.assert_allclose(block(x, attention_mask=every, padding_mask=GIVEN["padding_mask"]), usual[1], atol=1e-5)
    _, scores = block(x, padding_mask=GIVEN["padding_mask"], return_attention_scores=True)
    assert scores.shape == (3, 2, 7, 7)


@pytest.mark.parametrize(("endpoints", "length"), [(("pooled",), 1), (("pooled", "sequence"), 7), (("sequence",), 7)])
def test_a_task_that_reads_the_sequence_has_it_whole(endpoints, length):
    backbone = SimpleNamespace(build=lambda size: bert(), argument="bert")
    preprocessor = SimpleNamespace(size=7, host_spec=lambda: ((None, 3), "int32"), device=keras.layers.Identity)
    trunk = assembly._trunk(backbone, preprocessor, SimpleNamespace(endpoints=endpoints), "float32", name="trunk")
    assert trunk.network(GIVEN)["sequence"].shape == (3, length, 8)

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
@pytest.mark.parametrize("training", [False, True])
def test_the_first_token_is_what_it_was(training, lean, normalize_first):
    made = bert(normalize_first=normalize_first)
    if lean:
        make_lean(made)
        assert "_compute_attention" in vars(made.get_layer("transformer_layer_1")._self_attention_layer)
    for layer in made._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # in training the same, but for chance
    before, gradients = pooled_and_gradients(made, training=training)
    weights = [v.path for v in made.variables]
    first = keep_first_token(made)
    after, gradients_after = pooled_and_gradients(first, training=training)
    np.testing.assert_allclose(after, before, atol=1e-5)
    for ours, usual in zip(gradients_after, gradients, strict=True):
        np.testing.assert_allclose(ours, usual, rtol=1e-3, atol=1e-5)
    assert ([v.path for v in first.variables], first.name, list(first.output)) == (weights, made.name, ["pooled"])


def test_in_bfloat16_the_first_token_is_as_near_to_float32():
    exact, _ = pooled_and_gradients(bert())
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = bert()
    finally:
        keras.config.set_dtype_policy("float32")
    make_lean(made)
    whole, _ = pooled_and_gradients(made)
    first, _ = pooled_and_gradients(keep_first_token(made))
    assert np.abs(first - exact).max() <= np.abs(whole - exact).max() + 1e-2


@pytest.mark.parametrize("kept", ["_self_attention_layer", "_self_attention_dropout", "_feedforward_dropout"])
def test_each_dropout_still_drops(kept):
    made = bert(dropout=0.3)
    keep_first_token(made)
    block = made.get_layer("transformer_layer_1")
    dropouts = {
        "_self_attention_layer": block._self_attention_layer._dropout_layer,
        "_self_attention_dropout": block._self_attention_dropout,
        "_feedforward_dropout": block._feedforward_dropout,
    }
    for name, layer in dropouts.items():
        layer.rate = 0.3 if name == kept else 0.0
    x = np.random.default_rng(3).normal(size=(3, 7, 8)).astype("float32")
    first, second = (np.array(block(x, padding_mask=np.ones((3, 7)), training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(*(block(x, padding_mask=np.ones((3, 7))) for _ in range(2)))


@pytest.mark.parametrize("pooling", ["mean", "last", "pooler"])
def test_what_reads_other_tokens_stays(pooling):
    made = bert(pooling=pooling)
    before = made(GIVEN)
    assert keep_first_token(made) is made
    for name, value in made(GIVEN).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_block_of_someones_own_stays():
    made = bert()
    block = made.get_layer("transformer_layer_1")
    block.call = lambda inputs, padding_mask=None, training=None: inputs * 2.0
    assert keep_first_token(made) is made
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


@pytest.mark.parametrize(
    ("endpoints", "whole"), [(("pooled",), False), (("pooled", "sequence"), True), (("sequence",), True)]
)
def test_a_task_that_reads_the_sequence_has_it_whole(endpoints, whole):
    backbone = SimpleNamespace(build=lambda size: bert(), argument="bert")
    preprocessor = SimpleNamespace(size=7, host_spec=lambda: ((None, 3), "int32"), device=keras.layers.Identity)
    trunk = assembly._trunk(backbone, preprocessor, SimpleNamespace(endpoints=endpoints), "float32", name="trunk")
    outputs = trunk.network(GIVEN)
    assert ("sequence" in outputs) == whole
    assert not whole or outputs["sequence"].shape == (3, 7, 8)

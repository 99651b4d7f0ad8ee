"""Adapters: what is frozen stays bit-equal, what is merged answers alike, and nothing of them is left."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones._token_network import FAMILIES, network
from tfpt.backbones.tiny import Tiny
from tfpt.config import Input, Optim, Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.layers.trunk import Trunk
from tfpt.tasks.text_classification import TextClassification
from tfpt.training import freezing, lora
from tfpt.training.assembly import assemble, seeded
from tfpt.training.loop import compiled_steps
from tfpt.training.recipe import ADAPTERS
from tfpt.training.updates import Updates

STATE = {"classes": ["bad", "good"], "labels": "single", "counts": [1, 1]}
OPTIONS = Train(lora_rank=3)
EVERYTHING = Train(lora_rank=2, lora_layers=".")
STEPS = 4


def make_assembly(precision="float32"):
    backbone = Tiny("transformer")
    preprocessor = backbone.preprocessor(Input(max_length=12))
    made = assemble(
        TextClassification(), STATE, {"trunk": backbone}, {"trunk": preprocessor}, precision=precision, seed=0
    )
    return made, preprocessor


def train(assembly, inputs):
    """Trains for a few updates; returns the paths of the variables that changed."""
    freezing.set_trainable(assembly, unfreeze=ADAPTERS, train_batch_norm=True)
    before = {v.path: v.numpy() for v in assembly.model.variables}
    groups = freezing.rate_groups(assembly, Optim(), unfreeze=ADAPTERS, head_multiplier=1.0)
    updates = Updates(groups, Optim(warmup=0.0), learning_rate=0.05, steps=STEPS)
    batch = {
        "inputs": inputs,
        "targets": tf.constant([0, 1] * (len(inputs) // 2)),
        "weight": tf.ones(len(inputs)),
        "example": tf.range(len(inputs), dtype=tf.int64),
        "ok": tf.ones(len(inputs), tf.bool),
    }
    call = compiled_steps(TextClassification(), assembly.model, updates, None, accumulate=1)
    call(iter(tf.data.Dataset.from_tensors(batch).repeat(STEPS)), tf.constant(STEPS))
    return {v.path for v in assembly.model.variables if not np.array_equal(v.numpy(), before[v.path])}


def add(assembly, options, said=None):
    with seeded(1):
        lora.add(assembly.trunks, options, console=Console(stream=said or io.StringIO()))


@pytest.mark.parametrize("options", [OPTIONS, EVERYTHING], ids=["attention", "every layer"])
def test_adapters_and_head_train_and_nothing_else(options):
    assembly, preprocessor = make_assembly()
    trunk = assembly.trunks["trunk"]
    inputs, _ = preprocessor.host_batch(tf.constant(["one two three", "four five", "six", "seven eight nine"]))
    names = [v.path for v in trunk.variables]
    plain = assembly.model(inputs).numpy()
    weights = [v.numpy() for v in trunk.weights]
    said = io.StringIO()
    add(assembly, options, said)
    np.testing.assert_array_equal(assembly.model(inputs).numpy(), plain)  # B starts at zero
    changed = train(assembly, inputs)
    layers = lora.targets(assembly.trunks, options)
    adapters = {v.path for layer in layers for v in lora.adapters(layer)}
    assert changed == adapters | {"head/kernel", "head/bias"}
    if options is OPTIONS:
        assert {layer.name for layer in layers} == {"query", "value"}
        count = sum(v.numpy().size for layer in layers for v in lora.adapters(layer))
        assert f"on {len(layers)} layers: {count:,} parameters train" in said.getvalue()
    else:
        assert {"embedding_words", "block0_wide", "key"} <= {layer.name for layer in layers}

    trained = assembly.model(inputs).numpy()
    assert np.abs(trained - plain).max() > 1e-3
    lora.merge(assembly.trunks)
    np.testing.assert_allclose(assembly.model(inputs).numpy(), trained, atol=1e-6, rtol=1e-6)
    assert [v.path for v in trunk.variables] == names
    merged = {v.path for v, old in zip(trunk.weights, weights, strict=True) if not np.array_equal(v.numpy(), old)}
    assert merged <= {f"{layer.path}/{what}" for layer in layers for what in ("kernel", "embeddings")}
    assert len(merged) == len(layers)
    freezing.set_trainable(assembly, unfreeze="all", train_batch_norm=True)
    assert len(trunk.trainable_variables) == len(trunk.weights)
    add(assembly, options)  # and again
    lora.merge(assembly.trunks)


def test_adapters_are_merged_in_float32():
    assembly, preprocessor = make_assembly("bfloat16")
    inputs, _ = preprocessor.host_batch(tf.constant(["one two three", "four five"]))
    before = {v.path: v.numpy() for v in assembly.trunks["trunk"].weights}
    add(assembly, OPTIONS)
    train(assembly, inputs)
    layer = lora.targets(assembly.trunks, OPTIONS)[0]
    a, b = (v.numpy() for v in lora.adapters(layer))
    lora.merge(assembly.trunks)
    assert layer.kernel.dtype == "float32"
    np.testing.assert_allclose(layer.kernel.numpy(), before[f"{layer.path}/kernel"] + a @ b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["BertBackbone", "ViTBackbone", "GPT2Backbone"])
def test_the_default_finds_queries_and_values_of_keras_hub(kind):
    import keras_hub

    if kind == "ViTBackbone":
        inner = keras_hub.models.ViTBackbone((16, 16, 3), (8, 8), 2, 2, 8, 16)
        model = keras.Model(inner.inputs, {"pooled": inner.output[:, 0]})
    else:
        sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
        inner = getattr(keras_hub.models, kind)(vocabulary_size=20, max_sequence_length=12, **sizes)
        model = network(inner, FAMILIES[kind], pooling=FAMILIES[kind].pooling, name="toy")
    trunk = Trunk(model, keras.layers.Identity(), endpoints=("pooled",), shape=(12, 2), dtype_in="int32")
    found = lora.targets({"trunk": trunk}, OPTIONS)
    assert len(found) == 4  # two of each layer
    example = (
        np.random.default_rng(0).normal(size=(2, 16, 16, 3))
        if kind == "ViTBackbone"
        else {name: np.ones((2, 5), "int32") for name in model.input}
    )
    plain = model(example)["pooled"].numpy()
    lora.add({"trunk": trunk}, OPTIONS, console=Console(stream=io.StringIO()))
    for layer in found:
        _, b = lora.adapters(layer)
        b.assign(np.random.default_rng(1).normal(size=b.shape))
    changed = model(example)["pooled"].numpy()
    assert np.abs(changed - plain).max() > 1e-3
    lora.merge({"trunk": trunk})
    np.testing.assert_allclose(model(example)["pooled"].numpy(), changed, rtol=1e-4, atol=1e-5)


def test_that_no_layer_can_have_an_adapter_is_said():
    backbone = Tiny()
    model = backbone.build(16)
    trunk = Trunk(model, keras.layers.Identity(), endpoints=("pooled",), shape=(16, 16, 3), dtype_in="uint8")
    with pytest.raises(UserError, match=r"--train.lora_layers=.*no layer.*matches; they are called block\d_conv"):
        lora.targets({"trunk": trunk}, OPTIONS)
    assert len(lora.targets({"trunk": trunk}, EVERYTHING)) == 6  # Keras' convolutions can
    nothing = keras.Model(model.input, {"pooled": keras.layers.GlobalAveragePooling2D()(model.input)})
    trunk = Trunk(nothing, keras.layers.Identity(), endpoints=("pooled",), shape=(16, 16, 3), dtype_in="uint8")
    with pytest.raises(UserError, match=r"--train.lora_rank=3: the backbone has no layer"):
        lora.targets({"trunk": trunk}, OPTIONS)

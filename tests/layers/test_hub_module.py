"""The layer trains what the module holds; hub.KerasLayer of Keras 2 says what is right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import hub_modules

from tfpt.layers.hub_module import HubModule

TESTS = Path(__file__).parent.parent
PICTURES = np.random.default_rng(0).random((6, 8, 8, 3)).astype(np.float32)
TOKENS = {
    "input_word_ids": np.array([[2, 4, 6, 3, 0], [2, 5, 3, 0, 0]], np.int32),
    "input_mask": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32),
    "input_type_ids": np.zeros([2, 5], np.int32),
}

# hub.KerasLayer in Keras 2: outputs in both modes, gradients by variable, regularisation, statistics after the step.
KERAS_2 = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

def flat(outputs):
    return [np.asarray(x) for x in tf.nest.flatten(outputs)]

for folder in sys.argv[1:]:
    inputs = dict(np.load(f"{folder}.inputs.npz"))
    inputs = inputs if len(inputs) > 1 else inputs["arr_0"]
    layer = hub.KerasLayer(folder, trainable=True)
    made = {f"infer{k}": x for k, x in enumerate(flat(layer(inputs, training=False)))}
    with tf.GradientTape() as tape:
        outputs = layer(inputs, training=True)
        loss = tf.add_n([tf.reduce_sum(x ** 2) for x in tf.nest.flatten(outputs)] + list(layer.losses))
    gradients = tape.gradient(loss, layer.trainable_variables)
    made |= {f"train{k}": x for k, x in enumerate(flat(outputs))}
    made |= {f"gradient {v.name}": tf.convert_to_tensor(g) for v, g in zip(layer.trainable_variables, gradients)}
    made |= {f"after {v.name}": v.numpy() for v in layer.non_trainable_variables}
    np.savez(f"{folder}.result.npz", losses=np.sort([float(x) for x in layer.losses]), **made)
"""
KINDS = {"norm": PICTURES, "plain": PICTURES, "text": TOKENS}


@pytest.fixture(scope="module")
def of_keras_2(tmp_path_factory):
    """Kind -> the module's folder, and what hub.KerasLayer makes of it."""
    tmp = tmp_path_factory.mktemp("modules")
    folders = {
        "norm": hub_modules.pictures(tmp / "norm"),
        "plain": hub_modules.pictures(tmp / "plain", norm=False, nested=False),
        "text": hub_modules.encoder(tmp / "text", dropout=0),
    }
    for kind, folder in folders.items():
        inputs = KINDS[kind]
        np.savez(f"{folder}.inputs.npz", **inputs if isinstance(inputs, dict) else {"arr_0": inputs})
    done = subprocess.run(
        [sys.executable, "-c", KERAS_2, *folders.values()],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return {kind: (folder, dict(np.load(f"{folder}.result.npz"))) for kind, folder in folders.items()}


def model_of(folder, **options):
    module = HubModule(folder, **options)
    if isinstance(module._spec, dict):
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in sorted(module._spec)}
    else:
        inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, module(inputs)), module


def values(layer):
    return {v.path: v.numpy() for v in layer.variables}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_gradients_losses_and_statistics_are_hub_keras_layers(kind, of_keras_2):
    folder, wanted = of_keras_2[kind]
    inputs = KINDS[kind]
    model, _ = model_of(folder, size=8)
    found = {f"infer{k}": x.numpy() for k, x in enumerate(tf.nest.flatten(model(inputs, training=False)))}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        trained = {v.path: v.value for v in model.trainable_variables}
        for value in trained.values():
            tape.watch(value)
        outputs = model(inputs, training=True)
        loss = tf.add_n([tf.reduce_sum(x**2) for x in tf.nest.flatten(outputs)] + list(model.losses))
    gradients = tape.gradient(loss, list(trained.values()))
    found |= {f"train{k}": x.numpy() for k, x in enumerate(tf.nest.flatten(outputs))}
    found |= {f"gradient {p}:0": tf.convert_to_tensor(g).numpy() for p, g in zip(trained, gradients, strict=True)}
    found |= {f"after {v.path}:0": v.numpy() for v in model.non_trainable_variables}
    found["losses"] = np.sort([float(x) for x in model.losses])
    assert set(found) == set(wanted)
    assert len(trained) == {"norm": 6, "plain": 4, "text": 4}[kind]
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert all(np.any(gradient) for name, gradient in found.items() if name.startswith("gradient"))


def test_nested_outputs_have_names(tmp_path):
    model, _ = model_of(hub_modules.pictures(tmp_path / "a"), size=8)
    assert {name: x.shape for name, x in model.output.items()} == {
        "default": (None, 5),
        "maps/stem": (None, 4, 4, 4),
        "maps/block/0": (None, 4, 4, 6),
    }
    model, _ = model_of(hub_modules.pictures(tmp_path / "b", nested=False), size=8)
    assert list(model.output) == ["output"]
    model, _ = model_of(hub_modules.encoder(tmp_path / "c"))
    assert list(model.output) == ["encoder_outputs/0", "encoder_outputs/1", "pooled_output", "sequence_output"]


def test_variables_are_the_modules_own_under_their_names(tmp_path):
    module = HubModule(hub_modules.pictures(tmp_path / "m"), size=8)
    by_path = {v.path: v for v in module.variables}
    assert list(by_path)[:2] == ["net/stem/kernel", "net/stem/norm/gamma"]
    owned = {v.name.partition(":")[0]: v for v in module.module.variables}
    assert set(by_path) == set(owned)
    assert all(by_path[name].value is owned[name] for name in owned)
    assert [scope.scope for scope in module.scopes] == ["net/stem", "net/stem/norm", "net/block_1/conv", "net/top"]
    assert [scope.name for scope in module.scopes][1] == "net.stem.norm"


def test_equal_names_become_different_paths(tmp_path):
    one, two = (tf.Variable(tf.ones([3, 5]) * k, name="kernel") for k in (1, 2))
    folder = hub_modules.save(
        tmp_path / "m",
        lambda x, training=False: tf.reduce_mean(x, [1, 2]) @ (one + two),
        tf.TensorSpec([None, 8, 8, 3]),
        [one, two],
    )
    module = HubModule(folder)
    assert len({v.path for v in module.variables}) == 2


def sgd_step(model, inputs):
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = tf.reduce_sum(tf.nest.flatten(outputs)[0] ** 2) + sum(model.losses)
    variables = model.trainable_variables
    for v, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
        v.assign_sub(0.01 * tf.convert_to_tensor(gradient))


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_a_frozen_module_stays_as_it_is_and_adds_no_loss(tmp_path):
    model, module = model_of(hub_modules.pictures(tmp_path / "m", dropout=True), size=8)
    module.trainable = False
    before = values(module)
    wanted = model(PICTURES, training=False)["default"].numpy()
    np.testing.assert_array_equal(model(PICTURES, training=True)["default"], wanted)
    assert not model.losses
    assert not model.trainable_variables
    assert not changed(before, values(module))


def test_what_is_frozen_never_moves(tmp_path):
    model, module = model_of(hub_modules.pictures(tmp_path / "m"), size=8)
    module.scopes[1].trainable = False  # batch normalisation
    before = values(module)
    sgd_step(model, PICTURES)
    assert changed(before, values(module)) == {
        "net/stem/kernel",
        "net/block_1/conv/kernel",
        "net/top/kernel",
        "net/top/bias",
    }
    module.scopes[1].trainable = True
    sgd_step(model, PICTURES)
    assert changed(before, values(module)) == set(before)


def test_dropout_is_on_in_training_only(tmp_path):
    model, _ = model_of(hub_modules.pictures(tmp_path / "m", dropout=True, norm=False), size=8)
    first, second = (model(PICTURES, training=True)["default"].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    first, second = (model(PICTURES, training=False)["default"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_momentum_is_found_and_can_be_set(tmp_path):
    folder = hub_modules.pictures(tmp_path / "m")
    untouched = {v.name: v.numpy() for v in tf.saved_model.load(folder).variables}
    module = HubModule(folder, size=8)
    for v in module.module.variables:
        np.testing.assert_array_equal(v.numpy(), untouched[v.name])  # finding out has left no trace
    assert [scope.momentum for scope in module.scopes] == [None, pytest.approx(hub_modules.MOMENTUM), None, None]
    stem = tf.nn.conv2d(PICTURES, untouched["net/stem/kernel:0"], 2, "SAME")
    mean, variance = tf.nn.moments(stem, [0, 1, 2])
    for momentum in (hub_modules.MOMENTUM, 0.9):
        module = HubModule(folder, size=8)
        module.scopes[1].momentum = momentum
        tf.function(lambda x, module=module: module(x, training=True))(PICTURES)
        found = values(module)
        np.testing.assert_allclose(found["net/stem/norm/moving_mean"], (1 - momentum) * mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            found["net/stem/norm/moving_variance"], momentum + (1 - momentum) * variance, rtol=1e-4
        )


def test_what_does_not_train_and_does_not_move_is_no_statistic(tmp_path):
    fixed = tf.Variable(tf.ones([3]), trainable=False, name="scale/fixed")
    kernel = tf.Variable(tf.ones([3, 5]), name="top/kernel")
    folder = hub_modules.save(
        tmp_path / "m",
        lambda x, training=False: tf.reduce_mean(x * fixed, [1, 2]) @ kernel,
        tf.TensorSpec([None, 8, 8, 3]),
        [fixed, kernel],
    )
    module = HubModule(folder)
    assert [scope.statistics for scope in module.scopes] == [[], []]


def test_a_module_without_a_training_flag_has_one_mode(tmp_path):
    kernel = tf.Variable(tf.ones([3, 5]), name="top/kernel")
    folder = hub_modules.save(
        tmp_path / "m", lambda x: tf.reduce_mean(x, [1, 2]) @ kernel, tf.TensorSpec([None, 8, 8, 3]), [kernel], flags=()
    )
    model, module = model_of(folder)
    before = values(module)
    sgd_step(model, PICTURES)
    assert changed(before, values(module)) == {"top/kernel"}


def test_a_module_for_inference_only(tmp_path):
    model, module = model_of(hub_modules.pictures(tmp_path / "m", flags=(False,)), size=8)
    before = values(module)
    np.testing.assert_array_equal(model(PICTURES, training=True)["default"], model(PICTURES, training=False)["default"])
    sgd_step(model, PICTURES)
    assert not {name for name in changed(before, values(module)) if "moving" in name}


def test_a_training_flag_that_is_a_tensor(tmp_path):
    def call(x, training):
        return tf.reduce_mean(x, [1, 2]) @ kernel * tf.where(training, 2.0, 1.0)

    kernel = tf.Variable(tf.ones([3, 5]), name="top/kernel")
    folder = hub_modules.save(
        tmp_path / "m", call, tf.TensorSpec([None, 8, 8, 3]), [kernel], flags=(tf.TensorSpec([], tf.bool),)
    )
    model, _ = model_of(folder)
    outputs = [model(PICTURES, training=training)["output"].numpy() for training in (False, True)]
    np.testing.assert_allclose(outputs[1], 2 * outputs[0], rtol=1e-6)


def test_it_stays_float32_under_a_mixed_policy(tmp_path):
    folder = hub_modules.pictures(tmp_path / "m")
    wanted = model_of(folder, size=8)[0](PICTURES, training=False)["default"].numpy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, _ = model_of(folder, size=8)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(model(PICTURES, training=False)["default"], wanted)


def test_clone_checkpoint_and_weights_file(tmp_path):
    model, module = model_of(hub_modules.pictures(tmp_path / "m"), size=8)
    sgd_step(model, PICTURES)
    wanted = model(PICTURES, training=False)["default"].numpy()
    clone = keras.models.clone_model(model)
    assert not {id(v) for v in clone.variables} & {id(v) for v in model.variables}
    assert not np.array_equal(clone(PICTURES, training=False)["default"], wanted)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(PICTURES, training=False)["default"], wanted)
    tf.train.Checkpoint(variables=[v.value for v in model.variables]).write(str(tmp_path / "state"))
    model.save_weights(tmp_path / "w.weights.h5")
    for restore in (
        lambda m: tf.train.Checkpoint(variables=[v.value for v in m.variables]).read(str(tmp_path / "state")),
        lambda m: m.load_weights(tmp_path / "w.weights.h5"),
    ):
        other, _ = model_of(module.folder, size=8)
        restore(other)
        np.testing.assert_array_equal(other(PICTURES, training=False)["default"], wanted)


REPLICAS = """
import json, sys
import numpy as np
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tfpt.layers.hub_module import HubModule
pictures = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)

def trained(strategy):
    with strategy.scope():
        module = HubModule(sys.argv[1], size=8)
        module.scopes[1].momentum = 0.8
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, module(inputs)["default"])
        optimizer = keras.optimizers.SGD(0.01)
        optimizer.build(model.trainable_variables)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) ** 2) + tf.add_n(model.losses)
        values = [v.value for v in model.trainable_variables]
        # Keras' optimizers add gradients up over replicas themselves.
        gradients = [g / strategy.num_replicas_in_sync for g in tape.gradient(loss, values)]
        optimizer.apply(gradients, model.trainable_variables)
    run = tf.function(lambda x: strategy.run(step, args=(x,)))
    for _ in range(3):
        run(strategy.experimental_distribute_values_from_function(lambda _: tf.constant(pictures)))
    return {v.path: v.numpy() for v in model.variables}, type(model.variables[0].value).__name__

alone, _ = trained(tf.distribute.OneDeviceStrategy("CPU:0"))
together, kind = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
loaded = {v.name.partition(":")[0]: v.numpy() for v in tf.saved_model.load(sys.argv[1]).variables}
print(json.dumps({
    "kind": kind,
    "difference": max(float(np.abs(alone[name] - together[name]).max()) for name in alone),
    "moved": sorted(name for name in alone if np.any(alone[name] != loaded[name])),
}))
"""


def test_two_replicas_train_as_one(tmp_path):
    folder = hub_modules.pictures(tmp_path / "m")
    done = subprocess.run([sys.executable, "-c", REPLICAS, folder], cwd=TESTS.parent, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kind"] == "MirroredVariable"
    assert len(found["moved"]) == 8
    assert found["difference"] < 1e-6

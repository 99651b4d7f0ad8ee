"""What every engine promises."""

import importlib.metadata

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.config import Runtime
from tfpt.engines import _choice
from tfpt.errors import UserError

ENGINES = registry.names("engine")


@pytest.fixture(scope="module")
def graph():
    """From pixels and a mask of varying length to three tensors in an order that is not that of their names."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.BatchNormalization()(x)
    network = keras.Model(inputs, [keras.layers.GlobalAveragePooling2D()(x), keras.layers.ReLU()(x)])
    network.layers[3].set_weights([np.arange(1.0, 5.0), np.arange(4.0), np.arange(4.0) / 9, np.arange(2.0, 6.0)])

    def function(given):
        pooled, maps = network(tf.cast(given["pixels"], tf.float32), training=False)
        return {"z": pooled, "a": maps, "mask": given["mask"][:, None, :]}

    pixels, mask = tf.TensorSpec((4, 8, 8, 3), tf.uint8), tf.TensorSpec((4, None), tf.int32)
    return function, _choice.freeze(function, {"pixels": pixels, "mask": mask})


def batch(length, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 2, (4, length), np.int32), random.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_computes_what_tensorflow_does(name, graph):
    function, frozen = graph
    assert registry.find("engine", name).version()
    run = registry.find("engine", name)().compile(frozen, precision="float32", threads=1)
    found = [run(batch(length, seed=length)) for length in (5, 3)]
    for length, outputs in zip((5, 3), found, strict=True):  # after both: an engine must not write over its answers
        mask, pixels = batch(length, seed=length)
        wanted = tf.nest.flatten(function({"pixels": tf.constant(pixels), "mask": tf.constant(mask)}))
        for ours, theirs in zip(outputs, wanted, strict=True):
            assert ours.dtype == theirs.dtype.as_numpy_dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_openvino_has_one_core_a_process(graph, monkeypatch):
    """A Core that goes away unloads the plugin's library, now and then while one of its threads is in it."""
    import openvino

    from tfpt.engines import openvino as ours

    made = []
    monkeypatch.setattr(openvino, "Core", lambda core=openvino.Core: made.append(core()) or made[-1])
    ours._core.cache_clear()
    for _ in range(2):
        ours.Openvino.precisions()
        ours.Openvino().compile(graph[1], precision="float32", threads=1)
    assert len(made) == 1


def test_openvino_computes_in_bfloat16_and_tensorflow_refuses(graph):
    _, frozen = graph
    exact = registry.find("engine", "openvino")().compile(frozen, precision="float32", threads=1)(batch(3))
    rounded = registry.find("engine", "openvino")().compile(frozen, precision="bfloat16", threads=1)(batch(3))
    assert rounded[2].dtype == np.float32
    np.testing.assert_allclose(rounded[2], exact[2], rtol=0.05, atol=0.05)
    with pytest.raises(UserError, match=r"engine_precision=bfloat16: TensorFlow computes in --train\.precision"):
        registry.find("engine", "tensorflow")().compile(frozen, precision="bfloat16", threads=1)


def test_an_engine_that_is_not_installed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    assert _choice.candidates("auto", precision="float32") == ["tensorflow", "openvino"]
    assert _choice.candidates("auto", precision="bfloat16") == ["openvino"]
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert _choice.candidates("auto", precision="float32") == ["tensorflow"]
    with pytest.raises(
        UserError, match=r"--runtime.engine=openvino cannot run here; run: pip install 'tfpt\[cpu-fast\]'"
    ):
        _choice.candidates("openvino", precision="float32")
    with pytest.raises(UserError, match="there is no such engine; there are openvino, tensorflow"):
        _choice.candidates("tensorrt", precision="float32")


def test_a_name_that_is_no_engine_is_a_mistake_in_the_flags():
    assert Runtime(engine="my_parts.my_engine").engine == "my_parts.my_engine"
    with pytest.raises(ValueError, match="engine: tensorrt is none of auto, openvino, tensorflow"):
        Runtime(engine="tensorrt")

"""Layers of Keras in fewer operations: the same function, in float32 to rounding, and on a CPU a third faster to train, or more.

Keras makes a dense layer on heads (`EinsumDense`) a product for each example of the batch, and GELU and layer normalisation
of a dozen elementwise operations whose gradients are two dozen. In bfloat16, which CPUs have for products only, those
operations take longer than the products.
"""

import contextlib
import contextvars
import functools
import math
import platform
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfpt.layers import lean_attention, lean_images

_stays_here = contextvars.ContextVar("stays_here", default=False)


@contextlib.contextmanager
def graph_that_stays_here(stays: bool = True) -> Iterator[None]:
    """Lets layers be traced in a form that this machine's TensorFlow computes faster, and exports and other engines might not know.

    Args:
        stays: False: what is traced inside leaves the process after all (an engine's graph).
    """
    before = _stays_here.set(stays)
    try:
        yield
    finally:
        _stays_here.reset(before)


def make_lean(network: keras.Model) -> None:
    """Changes how layers of a network compute; their weights, settings and class stay as they are.

    Args:
        network: its layers, also those inside other layers, are changed in place.
    """
    for layer in network._flatten_layers():
        if getattr(layer, "quantization_mode", None):
            continue
        if type(layer) is keras.layers.Dense or (
            type(layer) is keras.layers.EinsumDense and _is_one_product(layer.equation)
        ):
            layer.call = _dense(layer)
        elif type(layer) is keras.layers.LayerNormalization and _is_plain(layer):
            layer.call = _layer_normalization(layer)
        elif lean_attention.is_usual(layer):
            layer._compute_attention = lean_attention.attention(layer)
        elif type(layer) is keras.layers.Dropout and layer.noise_shape is None:
            layer.call = _dropout(layer)
        elif type(layer) is keras.layers.BatchNormalization and not layer.renorm:
            layer.call = lean_images.batch_normalization(layer)
        elif type(layer) is keras.layers.Conv2D and lean_images.is_pointwise(layer):
            layer.call = lean_images.pointwise_convolution(layer)
        elif type(layer) is keras.layers.DepthwiseConv2D and lean_images.is_wide_and_depthwise(layer):
            layer.call = lean_images.depthwise_convolution(layer)


@functools.cache
def one_dnn_is_on() -> bool:
    """Tells whether TensorFlow's graph optimizer puts oneDNN's operations in place of patterns that it knows."""
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:  # it is no public name
        return False
    devices = {device.device_type for device in tf.config.list_physical_devices()}
    return platform.machine() in ("x86_64", "AMD64") and IsMklEnabled() and not devices & {"GPU", "TPU"}


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x times the normal distribution's share below x, computed in float32 (Hendrycks and Gimpel, 2016, not its approximation).

    Args:
        x: of any shape, floating point.
    """

    @tf.custom_gradient
    def made(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        wide = tf.cast(x, tf.float32)
        below = 0.5 * tf.math.erfc(wide * -math.sqrt(0.5))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            density = tf.exp(tf.square(wide) * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
            return tf.cast(tf.cast(upstream, tf.float32) * (below + wide * density), x.dtype)

        return tf.cast(wide * below, x.dtype), gradient

    return made(x)


def layer_normalization(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, *, epsilon: float) -> tf.Tensor:
    """Normalises the last axis, in float32 (Ba, Kiros and Hinton, 2016).

    Args:
        x: `[..., channels]`, floating point.
        scale: `[channels]` float32.
        shift: `[channels]` float32.
        epsilon: added to the variance.
    """

    size = x.shape[-1]

    def mean(rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:  # a product is faster than multiplying and adding up
        return rows @ (weights[:, None] / size)

    @tf.custom_gradient
    def made(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        wide = tf.cast(tf.reshape(x, [-1, size]), tf.float32)
        alike = tf.ones([size])
        centred = wide - mean(wide, alike)
        slope = tf.math.rsqrt(mean(tf.square(centred), alike) + epsilon)
        normal = centred * slope

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            upstream = tf.cast(tf.reshape(upstream, [-1, size]), tf.float32)
            along = upstream * normal
            to_x = (upstream * scale - mean(upstream, scale) - normal * mean(along, scale)) * slope
            every = tf.ones([1, tf.shape(upstream)[0]])
            to_x = tf.reshape(tf.cast(to_x, x.dtype), tf.shape(x))
            return to_x, tf.reshape(every @ along, [size]), tf.reshape(every @ upstream, [size])

        return tf.reshape(tf.cast(normal * scale + shift, x.dtype), tf.shape(x)), gradient

    return made(x, scale, shift)


def fused_layer_normalization(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, *, epsilon: float) -> tf.Tensor:
    """Normalises the last axis in operations that TensorFlow's graph optimizer makes one of oneDNN's: a sixth of the time.

    It looks for a batch normalisation whose channels are the rows (FindMklLayerNorm in tensorflow/core/grappler/optimizers/remapper.cc), and
    finds it where batch or length is not known before: else the ones and zeros are constants by then. Not found, it is slow.

    Args:
        x: `[batch, length, channels]`, float32 or bfloat16, batch or length unknown.
        scale: `[channels]` float32.
        shift: `[channels]` float32.
        epsilon: added to the variance.
    """
    shape = tf.shape(x)
    rows = shape[0] * shape[1]
    nothing = tf.constant([], tf.float32)
    made, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, rows, x.shape[-1], 1]),
        scale=tf.fill([rows], 1.0),
        offset=tf.fill([rows], 0.0),
        mean=nothing,
        variance=nothing,
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    )
    return tf.reshape(made, shape) * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Sets values to zero and scales the others up (Srivastava et al., 2014), with 16 random bits a value instead of 32.

    Args:
        x: `[..., channels]`, floating point, an even number of channels.
        rate: share that becomes zero, in steps of 2**-16.
        seed: `[2]` integers.
    """
    dropped = round(rate * 2**16)
    shape = tf.shape(x)
    pairs = tf.concat([shape[:-1], [x.shape[-1] // 2]], axis=0)
    bits = tf.random.stateless_uniform(pairs, seed, minval=None, maxval=None, dtype=tf.uint32)
    kept = tf.reshape(tf.bitcast(bits, tf.uint16), shape) >= tf.constant(dropped, tf.uint16)
    return tf.where(kept, x * tf.cast(1.0 / (1.0 - dropped / 2**16), x.dtype), tf.zeros([], x.dtype))


def _is_one_product(equation: str) -> bool:
    """Tells whether an equation is one product of matrices: `abc,cde->abde`, `abcd,cde->abe`."""
    given, _, made = equation.partition("->")
    x, _, kernel = given.partition(",")
    contracted = len(set(x) & set(kernel))
    rows, columns = x[: len(x) - contracted], kernel[contracted:]
    return (
        (x + kernel + made).isalpha()
        and bool(contracted)
        and x[len(rows) :] == kernel[:contracted]
        and made == rows + columns
        and len(set(made)) == len(made)
    )


def _dense(layer: Any) -> Callable[..., Any]:
    """Returns a layer's call as one product of matrices, which oneDNN computes together with what follows."""
    given, _, _ = getattr(layer, "equation", "ab,bc->ac").partition("->")
    x, _, kernel = given.partition(",")
    contracted = len(set(x) & set(kernel))

    def call(inputs: Any, training: bool | None = None) -> Any:
        weights = tf.convert_to_tensor(layer.kernel)
        inner, outer = weights.shape[:contracted], weights.shape[contracted:]
        batch_axes = len(inputs.shape) - contracted
        shape = tf.concat([tf.shape(inputs)[:batch_axes], outer], axis=0)
        made = tf.reshape(inputs, [-1, math.prod(inner)]) @ tf.reshape(weights, [math.prod(inner), math.prod(outer)])
        bias, activation = layer.bias, layer.activation
        if not training and bias is not None and bias.shape == outer:
            # Bias and GELU come out of the product's own kernel. In training they do not pay: what GELU was of is needed, too.
            made, bias = tf.nn.bias_add(made, tf.reshape(bias, [-1])), None
            if activation is keras.activations.gelu:
                made, activation = tf.nn.gelu(made), None
        made = tf.ensure_shape(tf.reshape(made, shape), [*inputs.shape[:batch_axes], *outer])
        if bias is not None:
            made += bias
        if activation is keras.activations.gelu:
            return gelu(made)
        return made if activation is None else activation(made)

    return call


def _is_plain(layer: keras.layers.LayerNormalization) -> bool:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0] if len(layer.axis) == 1 else None
    last = axis == -1 or (layer.gamma is not None and axis == len(layer._build_shapes_dict["input_shape"]) - 1)
    return last and layer.scale and layer.center and not layer.rms_scaling


def _layer_normalization(layer: keras.layers.LayerNormalization) -> Callable[..., Any]:
    def call(inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        scale, shift = (tf.cast(v, tf.float32) for v in (layer.gamma, layer.beta))
        free = len(x.shape) == 3 and not x.shape[:2].is_fully_defined()
        fused = free and _stays_here.get() and one_dnn_is_on() and x.dtype in (tf.float32, tf.bfloat16)
        normalized = fused_layer_normalization if fused else layer_normalization
        return tf.cast(normalized(x, scale, shift, epsilon=layer.epsilon), layer.compute_dtype)

    return call


def _dropout(layer: keras.layers.Dropout) -> Callable[..., Any]:
    usual = layer.call

    def call(inputs: Any, training: bool = False) -> Any:
        if not training or not 0 < layer.rate < 1 or (inputs.shape[-1] or 1) % 2:
            return usual(inputs, training=training)
        return dropout(inputs, layer.rate, tf.cast(layer.seed_generator.next(), tf.int64))

    return call

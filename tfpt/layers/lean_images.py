"""Layers of image networks with gradients that a CPU computes faster: the same function, in float32 to rounding.

Keras normalises batches in a dozen elementwise operations, each of which reads and writes whole feature maps; oneDNN does it in
one kernel. Its gradients of convolutions have slow cases, too, which can be written as faster operations.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_FEW_TAPS = 3
"""Up to this width of a depthwise filter, oneDNN's gradient of the filter is faster than ours: 1.1 to 1.3 ms against 2.8 to 3.5 at 3 x 3
on small maps, and 7 to 13 ms against 4 to 8 at 5 x 5 (EfficientNet-Lite0's shapes, 16 pictures, 2 cores)."""


def batch_normalization(layer: keras.layers.BatchNormalization) -> Callable[..., Any]:
    """Returns a layer's call that normalises feature maps in one operation while training (Ioffe and Szegedy, 2015)."""
    usual = layer.call

    @tf.custom_gradient
    def with_fixed_statistics(x: tf.Tensor, *statistics: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        made, *_ = tf.compat.v1.nn.fused_batch_norm(x, *statistics, epsilon=layer.epsilon, is_training=False)
        scale, _, _, variance = statistics
        slope = tf.cast(scale * tf.math.rsqrt(variance + layer.epsilon), x.dtype)
        return made, lambda upstream: (upstream * slope, None, None, None, None)

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        channels_last = len(inputs.shape) == 4 and layer.axis in (-1, 3)
        if not (training and channels_last) or layer.synchronized or mask is not None:
            return usual(inputs, training=training, mask=mask)
        ones = tf.ones(layer.moving_mean.shape)
        scale = ones if layer.gamma is None else tf.convert_to_tensor(layer.gamma)
        shift = tf.zeros_like(ones) if layer.beta is None else tf.convert_to_tensor(layer.beta)
        x = tf.cast(inputs, layer.compute_dtype)
        if not layer.trainable:
            mean, variance = (tf.convert_to_tensor(v) for v in (layer.moving_mean, layer.moving_variance))
            return with_fixed_statistics(x, scale, shift, mean, variance)
        made, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, shift, epsilon=layer.epsilon)
        values = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
        biased = variance * (
            (values - 1.0) / values
        )  # Keras' moving variance is divided by n, the operation's by n - 1
        for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, biased)):
            moving.assign(moving * layer.momentum + now * (1.0 - layer.momentum))
        return made

    return call


def is_pointwise(layer: keras.layers.Conv2D) -> bool:
    """Tells whether a convolution looks at one pixel at a time: a product of matrices."""
    return layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1 and layer.data_format == "channels_last"


def pointwise_convolution(layer: keras.layers.Conv2D) -> Callable[..., Any]:
    """Returns a layer's call whose gradients are products of matrices."""

    @tf.custom_gradient
    def convolved(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = kernel[0, 0]
            pixels, slopes = tf.reshape(x, [-1, weights.shape[0]]), tf.reshape(upstream, [-1, weights.shape[1]])
            to_x = tf.reshape(tf.matmul(slopes, weights, transpose_b=True), tf.shape(x))
            return to_x, tf.matmul(pixels, slopes, transpose_a=True)[None, None]

        return tf.nn.conv2d(x, kernel, 1, "VALID"), gradient

    return _call(layer, convolved)


def is_wide_and_depthwise(layer: keras.layers.DepthwiseConv2D) -> bool:
    """Tells whether the gradient of a depthwise filter is one that oneDNN is slow at."""
    return (
        min(layer.kernel_size) > _FEW_TAPS
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.depth_multiplier == 1
        and layer.padding == "same"
        and layer.data_format == "channels_last"
    )


def depthwise_convolution(layer: keras.layers.DepthwiseConv2D) -> Callable[..., Any]:
    """Returns a layer's call whose filter's gradient is a depthwise convolution, too: of the maps by their slopes."""
    height, width = layer.kernel_size
    before = [(height - 1) // 2, (width - 1) // 2]

    @tf.custom_gradient
    def convolved(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=[1] * 4, padding="SAME"
            )
            around = [[0, 0], *([b, size - 1 - b] for b, size in zip(before, (height, width), strict=True)), [0, 0]]
            shape = tf.shape(x)
            # Each channel of each picture becomes a channel of one picture, whose filter is its slopes.
            maps = tf.transpose(tf.pad(x, around), [1, 2, 0, 3])
            maps = tf.reshape(maps, [1, shape[1] + height - 1, shape[2] + width - 1, shape[0] * shape[3]])
            slopes = tf.reshape(tf.transpose(upstream, [1, 2, 0, 3]), [shape[1], shape[2], shape[0] * shape[3], 1])
            each = tf.nn.depthwise_conv2d(maps, slopes, [1] * 4, "VALID")
            each = tf.cast(tf.reshape(each, [height, width, shape[0], shape[3], 1]), tf.float32)
            return to_x, tf.cast(tf.reduce_sum(each, axis=2), kernel.dtype)

        return tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME"), gradient

    return _call(layer, convolved)


def _call(layer: Any, convolved: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[..., Any]:
    usual = layer.call

    def call(inputs: Any) -> Any:
        if not layer._get_call_context().get_value("training"):
            return usual(inputs)  # a written gradient would keep what follows from being folded into the convolution
        made = convolved(tf.convert_to_tensor(inputs), tf.convert_to_tensor(layer.kernel))
        if layer.use_bias:
            made += tf.convert_to_tensor(layer.bias)
        return made if layer.activation is None else layer.activation(made)

    return call

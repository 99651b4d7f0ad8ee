"""Changes of colour. Pictures are `[height, width, 3]` float32 from 0 to 255, factor 1 leaves them as they are."""

from typing import Any

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value; ITU-R BT.601."""
_SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))


def grey(image: Any) -> Any:
    """Returns the grey values, `[height, width, 1]`."""
    import tensorflow as tf

    return tf.reduce_sum(image * tf.constant(_LUMA), axis=-1, keepdims=True)


def brightness(image: Any, factor: Any) -> Any:
    """Towards black below 1."""
    return image * factor


def contrast(image: Any, factor: Any) -> Any:
    """Towards the mean grey value below 1."""
    import tensorflow as tf

    mean = tf.reduce_mean(grey(image))
    return mean + factor * (image - mean)


def saturation(image: Any, factor: Any) -> Any:
    """Towards a grey picture below 1."""
    base = grey(image)
    return base + factor * (image - base)


def sharpness(image: Any, factor: Any) -> Any:
    """Towards a smoothed picture below 1; the rim stays."""
    import tensorflow as tf

    kernel = tf.constant(_SMOOTH)[:, :, tf.newaxis, tf.newaxis] / 13.0
    smooth = tf.nn.depthwise_conv2d(image[tf.newaxis], tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")[0]
    inner = image[1:-1, 1:-1]
    return image + (factor - 1.0) * tf.pad(inner - smooth, [[1, 1], [1, 1], [0, 0]])


def hue(image: Any, turn: Any) -> Any:
    """Turns the colour circle by a share of a full turn, -0.5 to 0.5."""
    import tensorflow as tf

    return tf.image.adjust_hue(tf.clip_by_value(image, 0.0, 255.0) / 255.0, turn) * 255.0


def autocontrast(image: Any) -> Any:
    """Stretches each channel from 0 to 255."""
    import tensorflow as tf

    low = tf.reduce_min(image, axis=[0, 1])
    high = tf.reduce_max(image, axis=[0, 1])
    return tf.where(high > low, (image - low) * tf.math.divide_no_nan(255.0, high - low), image)


def equalize(image: Any) -> Any:
    """Makes all values of a channel about equally frequent."""
    import tensorflow as tf

    def one(channel: Any) -> Any:
        values = tf.cast(tf.clip_by_value(tf.round(channel), 0.0, 255.0), tf.int32)
        below = tf.cumsum(tf.math.bincount(tf.reshape(values, [-1]), minlength=256, maxlength=256))
        first = tf.reduce_min(tf.boolean_mask(below, below > 0))
        span = tf.cast(below[-1] - first, tf.float32)
        table = tf.cast(below - first, tf.float32) * tf.math.divide_no_nan(255.0, span)
        return tf.where(span > 0, tf.gather(table, values), channel)

    return tf.stack([one(channel) for channel in tf.unstack(image, num=3, axis=-1)], axis=-1)


def posterize(image: Any, bits: Any) -> Any:
    """Keeps the highest bits of each value."""
    import tensorflow as tf

    step = tf.pow(2.0, 8.0 - bits)
    return tf.floor(image / step) * step


def solarize(image: Any, threshold: Any) -> Any:
    """Inverts values from the threshold on."""
    import tensorflow as tf

    return tf.where(image < threshold, image, 255.0 - image)


def to_pixels(image: Any, dtype: Any) -> Any:
    """Returns whole numbers from 0 to 255."""
    import tensorflow as tf

    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), dtype)

"""A few random operations out of fourteen."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

from tfpt.augment import Op, _colours

_GREY = 128.0


@dataclasses.dataclass(frozen=True)
class Randaugment(Op):
    """Applies `n` of fourteen changes of colour and geometry, each drawn anew, with one strength.

    Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", CVPR Workshops 2020. The
    changes are the paper's; posterize and solarize grow with the magnitude as the others do, and enhancements go either way.

    Attributes:
        n: how many, one after the other.
        magnitude: from 0 to 10.
    """

    n: int = 2
    magnitude: float = 9.0
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if not (isinstance(self.n, int) and 1 <= self.n <= 10):
            raise ValueError(f"n={self.n} is not between 1 and 10")
        if not 0 <= self.magnitude <= 10:
            raise ValueError(f"magnitude={self.magnitude} is not between 0 and 10")

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features with the picture changed."""
        import tensorflow as tf

        image = features["image"]
        changed = tf.cast(image, tf.float32)
        level = self.magnitude / 10.0
        for k in range(self.n):
            which, side = tf.unstack(
                tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, k))
            )
            sign = tf.where(side < 0.5, -1.0, 1.0)
            ways = [_bound(change, changed, level, sign) for change in CHANGES.values()]
            changed = tf.clip_by_value(tf.switch_case(tf.cast(which * len(ways), tf.int32), ways), 0.0, 255.0)
        return {**features, "image": _colours.to_pixels(changed, image.dtype)}


def _bound(change: Callable[..., Any], image: Any, level: float, sign: Any) -> Callable[[], Any]:
    return lambda: change(image, level, sign)


def _moved(image: Any, matrix: list[Any]) -> Any:
    """Returns the picture read at `matrix` times each place, about its centre; grey where that lies outside.

    Args:
        image: `[height, width, 3]` float32.
        matrix: a, b, c, d, e, f: column = a x + b y + c, row = d x + e y + f.
    """
    import tensorflow as tf

    height, width = image.shape[:2]
    x, y = (width - 1) / 2, (height - 1) / 2
    a, b, c, d, e, f = (tf.convert_to_tensor(value, tf.float32) for value in matrix)
    about_centre = [a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y, tf.zeros([]), tf.zeros([])]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack(about_centre)[tf.newaxis],
        output_shape=tf.constant([height, width]),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=_GREY,
    )[0]


def _rotate(image: Any, level: float, sign: Any) -> Any:
    import tensorflow as tf

    angle = math.radians(30.0) * level * sign
    return _moved(image, [tf.cos(angle), -tf.sin(angle), 0.0, tf.sin(angle), tf.cos(angle), 0.0])


CHANGES: dict[str, Callable[[Any, float, Any], Any]] = {
    "identity": lambda image, level, sign: image,
    "autocontrast": lambda image, level, sign: _colours.autocontrast(image),
    "equalize": lambda image, level, sign: _colours.equalize(image),
    "rotate": _rotate,
    "solarize": lambda image, level, sign: _colours.solarize(image, 256.0 * (1.0 - level)),
    "color": lambda image, level, sign: _colours.saturation(image, 1.0 + 0.9 * level * sign),
    "posterize": lambda image, level, sign: _colours.posterize(image, 8.0 - round(4.0 * level)),
    "contrast": lambda image, level, sign: _colours.contrast(image, 1.0 + 0.9 * level * sign),
    "brightness": lambda image, level, sign: _colours.brightness(image, 1.0 + 0.9 * level * sign),
    "sharpness": lambda image, level, sign: _colours.sharpness(image, 1.0 + 0.9 * level * sign),
    "shear_x": lambda image, level, sign: _moved(image, [1.0, 0.3 * level * sign, 0.0, 0.0, 1.0, 0.0]),
    "shear_y": lambda image, level, sign: _moved(image, [1.0, 0.0, 0.0, 0.3 * level * sign, 1.0, 0.0]),
    "translate_x": lambda image, level, sign: _moved(
        image, [1.0, 0.0, 0.3 * level * sign * image.shape[1], 0.0, 1.0, 0.0]
    ),
    "translate_y": lambda image, level, sign: _moved(
        image, [1.0, 0.0, 0.0, 0.0, 1.0, 0.3 * level * sign * image.shape[0]]
    ),
}
"""Name -> what it makes of a picture from 0 to 255, at a level from 0 to 1, this way (1) or the other (-1).

Ranges as in the paper's table: rotation by 30 degrees, shear by 0.3, shifts by 0.3 of the side, enhancement from 0.1 to 1.9,
4 bits, the whole range of thresholds.
"""

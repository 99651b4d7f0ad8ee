"""Pictures with a rectangle of noise."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class RandomErasing(Op):
    """Puts noise into a rectangle of the picture, some of the time.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.

    Attributes:
        probability: of erasing anything; 0.5 in the paper.
        smallest: share of the picture that is erased at least; the paper's.
        largest: at most.
        stretch: the longer side of the rectangle over the shorter, at most; the paper's.
    """

    probability: float = 0.25
    smallest: float = 0.02
    largest: float = 0.4
    stretch: float = 3.3
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} is not between 0 and 1")
        if not 0 < self.smallest <= self.largest <= 1:
            raise ValueError(f"smallest={self.smallest}, largest={self.largest} are not growing shares of the picture")
        if self.stretch < 1:
            raise ValueError(f"stretch={self.stretch} is below 1")

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features with a rectangle erased or not."""
        import tensorflow as tf

        image = features["image"]
        height, width = image.shape[:2]
        chance, share, ratio, y, x = tf.unstack(tf.random.stateless_uniform([5], seed))
        area = (self.smallest + share * (self.largest - self.smallest)) * height * width
        ratio = tf.pow(float(self.stretch), 2 * ratio - 1)  # of height to width, as often tall as wide
        tall = tf.minimum(tf.round(tf.sqrt(area * ratio)), float(height))
        wide = tf.minimum(tf.round(tf.sqrt(area / ratio)), float(width))
        rows = _within(height, tf.floor(y * (height - tall + 1)), tall)
        columns = _within(width, tf.floor(x * (width - wide + 1)), wide)
        inside = rows[:, tf.newaxis, tf.newaxis] & columns[tf.newaxis, :, tf.newaxis] & (chance < self.probability)
        noise = tf.random.stateless_uniform(
            image.shape, tf.random.experimental.stateless_fold_in(seed, 1), minval=0, maxval=256, dtype=tf.int32
        )
        return {**features, "image": tf.where(inside, tf.cast(noise, image.dtype), image)}


def _within(size: int, start: Any, length: Any) -> Any:
    import tensorflow as tf

    places = tf.range(size, dtype=tf.float32)
    return (places >= start) & (places < start + length)

"""Pictures with a rectangle of another one."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op
from tfpt.augment._mixing import check_pictures, mixed_targets, neighbour_shares


@dataclasses.dataclass(frozen=True)
class Cutmix(Op):
    """Puts a rectangle of its neighbour in the batch into each picture; the target changes by the rectangle's area.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.

    Attributes:
        alpha: of the Beta distribution of the rectangle's area; 1 in the paper.
        probability: of an example getting one; 0.5 in the paper for CIFAR, 1 for ImageNet.
    """

    alpha: float = 1.0
    probability: float = 0.5
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha={self.alpha} is not positive")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} is not between 0 and 1")

    def batch(self, inputs: Any, targets: Any, seeds: Any) -> tuple[Any, Any]:
        """Returns pictures with rectangles, and targets with the area's share of the neighbour's."""
        import tensorflow as tf

        check_pictures(inputs, op="cutmix")
        share = neighbour_shares(seeds, alpha=self.alpha, probability=self.probability)
        centres = tf.map_fn(
            lambda seed: tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, 2)),
            seeds,
            fn_output_signature=tf.float32,
        )
        inside = tf.nest.map_structure(lambda pixels: _rectangles(pixels.shape[-3:-1], centres, share), inputs)
        cut = tf.nest.map_structure(_filled, inputs, inside)
        area = tf.reduce_mean(tf.cast(tf.nest.flatten(inside)[0], tf.float32), axis=[1, 2])  # what lies in the picture
        return cut, mixed_targets(targets, area, op="cutmix")


def _rectangles(size: Any, centres: Any, share: Any) -> Any:
    """Returns `[batch, height, width]` bool: inside a rectangle with a share of the area, cut off at the rim."""
    import tensorflow as tf

    half = tf.sqrt(share) / 2
    rows, columns = (
        tf.abs((tf.range(side, dtype=tf.float32) + 0.5) / side - centres[:, k, tf.newaxis]) < half[:, tf.newaxis]
        for k, side in enumerate(size)
    )
    return rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]


def _filled(pixels: Any, inside: Any) -> Any:
    import tensorflow as tf

    views = [1] * (pixels.shape.rank - 4)  # all views of an example get the same rectangle
    shape = [tf.shape(inside)[0], *views, *inside.shape[1:], 1]
    return tf.where(tf.reshape(inside, shape), tf.roll(pixels, 1, axis=0), pixels)

"""Blended pairs of pictures."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op
from tfpt.augment._mixing import check_pictures, mixed_targets, neighbour_shares, with_neighbour


@dataclasses.dataclass(frozen=True)
class Mixup(Op):
    """Blends each picture, and its target, with its neighbour in the batch.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; the share is drawn for each example.

    Attributes:
        alpha: of the Beta distribution of shares; 0.1 to 0.4 in the paper, for ImageNet.
        probability: of an example being blended at all.
    """

    alpha: float = 0.2
    probability: float = 1.0
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha={self.alpha} is not positive")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} is not between 0 and 1")

    def batch(self, inputs: Any, targets: Any, seeds: Any) -> tuple[Any, Any]:
        """Returns blended pictures and targets."""
        import tensorflow as tf

        check_pictures(inputs, op="mixup")
        share = neighbour_shares(seeds, alpha=self.alpha, probability=self.probability)
        blended = tf.nest.map_structure(lambda pixels: with_neighbour(pixels, share), inputs)
        return blended, mixed_targets(targets, share, op="mixup")

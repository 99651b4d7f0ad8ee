"""Shifted images."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class RandomCrop(Op):
    """Pads the picture by reflection and cuts its own size out at a random place.

    Attributes:
        pad: pixels on each side, or, below 1, a share of the picture's side.
    """

    pad: float = 0.1
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if self.pad <= 0:
            raise ValueError(f"pad={self.pad} is not positive")

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features with the picture shifted."""
        import tensorflow as tf

        image = features["image"]
        side = min(image.shape[0], image.shape[1])
        pad = min(side - 1, round(self.pad * side) if self.pad < 1 else int(self.pad))
        padded = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]], mode="REFLECT")
        return {**features, "image": tf.image.stateless_random_crop(padded, image.shape, seed)}

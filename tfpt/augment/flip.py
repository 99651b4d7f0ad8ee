"""Mirror images."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class Flip(Op):
    """Mirrors the picture left to right, half of the time. Not for text, digits or anything that has a handedness."""

    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features with the picture mirrored or not."""
        import tensorflow as tf

        return {**features, "image": tf.image.stateless_random_flip_left_right(features["image"], seed)}

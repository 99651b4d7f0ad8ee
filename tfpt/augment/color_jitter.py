"""Other light, other camera."""

import dataclasses
from typing import Any, ClassVar

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class ColorJitter(Op):
    """Changes brightness, contrast, saturation and hue, in this order.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, appendix A, whose
    strengths are twice these.

    Attributes:
        brightness: the factor is drawn from 1 - brightness to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: the colour circle is turned by up to this share of a full turn, either way.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    moves: ClassVar[frozenset[str]] = frozenset({"image"})

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not between 0 and 1")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue={self.hue} is not between 0 and 0.5")

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features with the picture's colours changed."""
        import tensorflow as tf

        from tfpt.augment import _colours

        image = features["image"]
        drawn = tf.unstack(tf.random.stateless_uniform([4], seed, minval=-1.0, maxval=1.0))
        changed = tf.cast(image, tf.float32)
        for name, amount in zip(("brightness", "contrast", "saturation"), drawn, strict=False):
            changed = getattr(_colours, name)(changed, 1.0 + amount * getattr(self, name))
        if self.hue:
            changed = _colours.hue(changed, drawn[3] * self.hue)
        return {**features, "image": _colours.to_pixels(changed, image.dtype)}

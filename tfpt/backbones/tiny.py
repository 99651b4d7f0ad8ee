"""A convolutional network that trains from random numbers in seconds: for small pictures, first tries and tests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

# Channels and stride of each convolution.
_CONVOLUTIONS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2))
_SIZE = 32


class Tiny(Backbone):
    """`tiny:conv`: six convolutions, each with batch normalisation and ReLU; no pretrained weights.

    Its random start comes from Keras' seed (`keras.utils.set_random_seed`).
    """

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument or "conv", config)
        if self.argument != "conv":
            raise UserError(f"--backbone=tiny:{argument}: there is only tiny:conv.")

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns `conv`."""
        return ("conv",)

    def spec(self) -> Spec:
        """Answers from constants."""
        return Spec(
            modality="image",
            size=_SIZE,
            value_range=(-1.0, 1.0),
            endpoints={"pooled": (_CONVOLUTIONS[-1][0],), "levels": (None, None, None)},
            parameters=144624,
            licence="Apache-2.0",
            origin="tfpt, random start",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor: pixels to -1 ... 1."""
        from tfpt.preprocessors.image import Image

        size = _SIZE if options.image_size == "auto" else options.image_size
        return Image(size=size, resize=options.resize, scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)

    def build(self, size: int) -> "keras.Model":
        """Builds the network for `size` x `size` pixels."""
        import keras

        x = inputs = keras.Input((size, size, 3), name="image", dtype="float32")
        maps = []
        for k, (channels, stride) in enumerate(_CONVOLUTIONS):
            if stride > 1:
                maps.append(x)
            x = keras.layers.Conv2D(channels, 3, stride, padding="same", use_bias=False, name=f"block{k}_conv")(x)
            # A short training needs statistics that follow quickly: Keras' own 0.99 is made for long ones.
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{k}_bn")(x)
            x = keras.layers.ReLU(name=f"block{k}_relu")(x)
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        return keras.Model(inputs, {"pooled": pooled, "levels": [*maps[2:], x]}, name="tiny_conv")

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns each convolution with its normalisation."""
        return [[model.get_layer(f"block{k}_conv"), model.get_layer(f"block{k}_bn")] for k in range(len(_CONVOLUTIONS))]

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns the end of each convolution's block."""
        return [f"block{k}_relu" for k in range(len(_CONVOLUTIONS))]

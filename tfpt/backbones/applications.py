"""The networks of keras.applications, with or without their ImageNet weights."""

import dataclasses
import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.config import check, setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scaling:
    """How pixels become inputs: `x * scale + offset`, a channel each, in the order that the network wants."""

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bgr: bool = False

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and largest value that a pixel becomes."""
        highest = max(255 * scale + offset for scale, offset in zip(self.scale, self.offset, strict=True))
        return min(self.offset), highest


# ImageNet's mean and deviation (0 to 1, red first) as torchvision uses them, and Caffe's mean (0 to 255, blue first).
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_SCALINGS = {
    "inside": _Scaling(),
    "tf": _Scaling(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3),
    "torch": _Scaling(
        scale=(1 / 255 / _DEVIATION[0], 1 / 255 / _DEVIATION[1], 1 / 255 / _DEVIATION[2]),
        offset=(-_MEAN[0] / _DEVIATION[0], -_MEAN[1] / _DEVIATION[1], -_MEAN[2] / _DEVIATION[2]),
    ),
    "caffe": _Scaling(offset=(-103.939, -116.779, -123.68), bgr=True),
}

# Builder: the side that it was trained at, its preprocessing, the channels of its last map, its parameters.
_BUILDERS = {
    "ConvNeXtBase": (224, "inside", 1024, 87566464),
    "ConvNeXtLarge": (224, "inside", 1536, 196230336),
    "ConvNeXtSmall": (224, "inside", 768, 49454688),
    "ConvNeXtTiny": (224, "inside", 768, 27820128),
    "ConvNeXtXLarge": (224, "inside", 2048, 348147968),
    "DenseNet121": (224, "torch", 1024, 7037504),
    "DenseNet169": (224, "torch", 1664, 12642880),
    "DenseNet201": (224, "torch", 1920, 18321984),
    "EfficientNetB0": (224, "inside", 1280, 4049571),
    "EfficientNetB1": (240, "inside", 1280, 6575239),
    "EfficientNetB2": (260, "inside", 1408, 7768569),
    "EfficientNetB3": (300, "inside", 1536, 10783535),
    "EfficientNetB4": (380, "inside", 1792, 17673823),
    "EfficientNetB5": (456, "inside", 2048, 28513527),
    "EfficientNetB6": (528, "inside", 2304, 40960143),
    "EfficientNetB7": (600, "inside", 2560, 64097687),
    "EfficientNetV2B0": (224, "inside", 1280, 5919312),
    "EfficientNetV2B1": (240, "inside", 1280, 6931124),
    "EfficientNetV2B2": (260, "inside", 1408, 8769374),
    "EfficientNetV2B3": (300, "inside", 1536, 12930622),
    "EfficientNetV2L": (480, "inside", 1280, 117746848),
    "EfficientNetV2M": (480, "inside", 1280, 53150388),
    "EfficientNetV2S": (384, "inside", 1280, 20331360),
    "InceptionResNetV2": (299, "tf", 1536, 54336736),
    "InceptionV3": (299, "tf", 2048, 21802784),
    "MobileNet": (224, "tf", 1024, 3228864),
    "MobileNetV2": (224, "tf", 1280, 2257984),
    "MobileNetV3Large": (224, "inside", 960, 2996352),
    "MobileNetV3Small": (224, "inside", 576, 939120),
    "NASNetLarge": (331, "tf", 4032, 84887922),
    "NASNetMobile": (224, "tf", 1056, 4269716),
    "ResNet101": (224, "caffe", 2048, 42658176),
    "ResNet101V2": (224, "tf", 2048, 42626560),
    "ResNet152": (224, "caffe", 2048, 58370944),
    "ResNet152V2": (224, "tf", 2048, 58331648),
    "ResNet50": (224, "caffe", 2048, 23587712),
    "ResNet50V2": (224, "tf", 2048, 23564800),
    "VGG16": (224, "caffe", 512, 14714688),
    "VGG19": (224, "caffe", 512, 20024384),
    "Xception": (299, "tf", 2048, 20861480),
}
_SUFFIXES = (".h5", ".keras")


class Applications(Backbone):
    """`applications:NAME`, NAME one of the builders in keras.applications, in upper or lower case."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        weights: str = setting(
            "imagenet", "imagenet; none: random numbers; or a file (.h5, .weights.h5, .keras) for include_top=False."
        )

        def __post_init__(self) -> None:
            check(bool(self.weights), "weights: write imagenet, none or the name of a file")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        by_lower = {name.lower(): name for name in _BUILDERS}
        if argument.lower() not in by_lower:
            close = difflib.get_close_matches(argument.lower(), by_lower, n=1)
            hint = f"did you mean {by_lower[close[0]]}?" if close else f"there are {', '.join(_BUILDERS)}."
            raise UserError(f"--backbone=applications:{argument}: keras.applications has no such network; {hint}")
        super().__init__(by_lower[argument.lower()], config)
        weights = self.config.weights
        if weights not in ("imagenet", "none"):
            if not weights.endswith(_SUFFIXES):
                raise UserError(
                    f"--backbone.weights={weights}: write imagenet, none or a file that ends in {' or '.join(_SUFFIXES)}."
                )
            if not Path(weights).expanduser().is_file():
                raise UserError(f"--backbone.weights={weights}: there is no such file.")
        self._size, self._mode, self._width, self._parameters = _BUILDERS[self.argument]

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns the names of all builders."""
        return tuple(_BUILDERS)

    def spec(self) -> Spec:
        """Answers from a table."""
        imagenet = self.config.weights == "imagenet"
        return Spec(
            modality="image",
            size=self._size,
            value_range=_SCALINGS[self._mode].value_range,
            endpoints={"pooled": (self._width,), "levels": (None, None, None)},
            parameters=self._parameters,
            licence="as published with keras.applications" if imagenet else "unknown",
            origin=f"keras.applications.{self.argument}, {'ImageNet' if imagenet else f'weights {self.config.weights}'}",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor that the network was trained with."""
        from tfpt.preprocessors.image import Image

        size = self._size if options.image_size == "auto" else options.image_size
        scaling = _SCALINGS[self._mode]
        return Image(size=size, resize=options.resize, scale=scaling.scale, offset=scaling.offset, bgr=scaling.bgr)

    def build(self, size: int) -> "keras.Model":
        """Builds the network without its classifier for `size` x `size` pixels and loads its weights."""
        import keras

        from tfpt.backbones import _functional

        builder = getattr(keras.applications, self.argument)
        path = self._weights_path()
        try:
            trunk = builder(include_top=False, weights=None, input_shape=(size, size, 3))
        except ValueError as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"--input.image_size={size}: applications:{self.argument} cannot be built ({reason})."
            ) from error
        if path is not None:
            self._load(trunk, path)
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(trunk.output)
        levels = _functional.levels(trunk, trunk.output)
        return keras.Model(trunk.inputs[0], {"pooled": pooled, "levels": levels}, name=self.argument.lower())

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the network's blocks."""
        from tfpt.backbones import _functional

        return _functional.groups(model, model.output["pooled"])

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns the layers where one tensor is all that goes on to `pooled`."""
        from tfpt.backbones import _functional

        return [layer.name for layer in _functional.cuts(model, model.output["pooled"])]

    def weight_files(self) -> Sequence[str]:
        """Returns the catalogue name of the ImageNet weights, when they are the ones asked for."""
        return (f"applications:{self.argument}",) if self.config.weights == "imagenet" else ()

    def _weights_path(self) -> Path | None:
        if self.config.weights == "none":
            return None
        if self.config.weights != "imagenet":
            return Path(self.config.weights).expanduser()
        from tfpt.weights.fetch import fetch

        try:
            return fetch(f"applications:{self.argument}")
        except UserError as error:
            raise UserError(
                f"{str(error).rstrip('.')}, or give --backbone.weights=FILE or --backbone.weights=none."
            ) from error

    def _load(self, trunk: "keras.Model", path: Path) -> None:
        from tfpt.weights import catalogue, fetch

        try:
            with warnings.catch_warnings(action="ignore"):  # Keras repeats one for each container, and raises besides
                trunk.load_weights(path)
        except Exception as error:  # whatever h5py and Keras make of a foreign file
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"--backbone.weights={path}: these are no weights of applications:{self.argument} without its classifier "
                f"({reason})."
            ) from error
        if self.argument.startswith("EfficientNetB") and fetch.matches(
            catalogue.find(f"applications:{self.argument}"), path
        ):
            _complete_normalisation(trunk)


def _complete_normalisation(trunk: "keras.Model") -> None:
    """Divides by what the published EfficientNet files leave out.

    They hold the deviation where the layer wants its square, and keras.applications.efficientnet makes up for it with
    one more layer, but only when it loads the weights itself.
    """
    import keras
    import numpy as np

    layer = next(layer for layer in trunk.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * np.asarray(_DEVIATION, variance.dtype), *count])
    layer.finalize_state()

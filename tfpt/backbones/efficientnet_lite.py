"""EfficientNet-Lite 0 to 2: EfficientNet without squeeze-and-excitation, with ReLU6, made for CPUs and phones.

Architecture: Tan & Le, "EfficientNet" (2019, arXiv:1905.11946), with the changes of TensorFlow's EfficientNet-Lite:
stem and head keep their width, first and last stage their depth. Drop-connect is left out: a trunk without randomness
gives the same features every time, so that they can be computed once.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.config import check, setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Variant:
    width: float
    depth: float
    size: int
    parameters: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int
    ends_level: bool


_VARIANTS = {
    "lite0": _Variant(width=1.0, depth=1.0, size=224, parameters=3413024),
    "lite1": _Variant(width=1.0, depth=1.1, size=240, parameters=4189344),
    "lite2": _Variant(width=1.1, depth=1.2, size=260, parameters=4869168),
}
# Kernel, stride, expansion, output channels, repeats; and whether its end is the last map of its resolution.
_STAGES = (
    (3, 1, 1, 16, 1, False),
    (3, 2, 6, 24, 2, True),
    (5, 2, 6, 40, 2, True),
    (3, 2, 6, 80, 3, False),
    (5, 1, 6, 112, 3, True),
    (5, 2, 6, 192, 4, False),
    (3, 1, 6, 320, 1, True),
)
_STEM = 32
_HEAD = 1280
_EPSILON = 1e-3
_SCALE = 1 / 128
_OFFSET = -127 / 128
_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_KERAS_SUFFIXES = (".h5", ".keras")


class EfficientnetLite(Backbone):
    """`efficientnet_lite:lite0|lite1|lite2`."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        weights: str = setting(
            "imagenet",
            "imagenet; none: random numbers; or a file: a torch checkpoint with this network's names (.pth, .pt, .bin), or Keras weights (.weights.h5).",
        )

        def __post_init__(self) -> None:
            check(bool(self.weights), "weights: write imagenet, none or the name of a file")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument.lower() or "lite0", config)
        if self.argument not in _VARIANTS:
            raise UserError(f"--backbone=efficientnet_lite:{argument}: there are {', '.join(_VARIANTS)}.")
        weights = self.config.weights
        if weights not in ("imagenet", "none"):
            if not weights.endswith((*_TORCH_SUFFIXES, *_KERAS_SUFFIXES)):
                raise UserError(
                    f"--backbone.weights={weights}: write imagenet, none or a file that ends in "
                    f"{', '.join((*_TORCH_SUFFIXES, *_KERAS_SUFFIXES))}."
                )
            if not Path(weights).expanduser().is_file():
                raise UserError(f"--backbone.weights={weights}: there is no such file.")
        self._variant = _VARIANTS[self.argument]

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns `lite0`, `lite1`, `lite2`."""
        return tuple(_VARIANTS)

    def spec(self) -> Spec:
        """Answers from a table."""
        return Spec(
            modality="image",
            size=self._variant.size,
            value_range=(_OFFSET, 255 * _SCALE + _OFFSET),
            endpoints={"pooled": (_HEAD,), "levels": (None, None, None)},
            parameters=self._variant.parameters,
            licence="Apache-2.0",
            origin="EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946), "
            + ("ImageNet" if self.config.weights == "imagenet" else f"weights {self.config.weights}"),
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor: (x - 127) / 128."""
        from tfpt.preprocessors.image import Image

        size = self._variant.size if options.image_size == "auto" else options.image_size
        return Image(size=size, resize=options.resize, scale=(_SCALE,) * 3, offset=(_OFFSET,) * 3)

    def build(self, size: int) -> "keras.Model":
        """Builds the trunk for `size` x `size` pixels and loads its weights."""
        import keras

        inputs, maps = self._features(size)
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps[-1])
        model = keras.Model(inputs, {"pooled": pooled, "levels": maps[:-1]}, name=f"efficientnet_{self.argument}")
        self._load(model)
        return model

    def build_classifier(self, size: int) -> "keras.Model":
        """Builds the network that ImageNet's 1,000 classes were learned with: pixels to logits `[batch, 1000]`."""
        import keras

        inputs, maps = self._features(size)
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps[-1])
        logits = keras.layers.Dense(1000, name="logits")(pooled)
        model = keras.Model(inputs, logits, name=f"efficientnet_{self.argument}_classifier")
        self._load(model)
        return model

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the stem, each block, and the head convolution."""
        found: dict[str, list[keras.layers.Layer]] = {}
        for layer in model.layers:
            if layer.weights:
                found.setdefault(layer.name.partition("_")[0], []).append(layer)
        return list(found.values())

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns the ends of the stem and of all blocks."""
        names = {layer.name for layer in model.layers}
        ends = [
            f"block{k}_add" if f"block{k}_add" in names else f"block{k}_project_bn" for k in range(len(self._blocks()))
        ]
        return ["stem_relu6", *ends]

    def weight_files(self) -> Sequence[str]:
        """Returns the catalogue name of the ImageNet weights, when they are the ones asked for."""
        return (f"efficientnet_lite:{self.argument}",) if self.config.weights == "imagenet" else ()

    def _blocks(self) -> list[_Block]:
        return list(_blocks(self._variant))

    def _features(self, size: int) -> tuple[Any, list[Any]]:
        """Returns the input and the feature maps: the levels, and after them the head's map."""
        import keras

        inputs = keras.Input((size, size, 3), name="image", dtype="float32")
        x = _conv(inputs, "stem", _STEM, kernel=3, stride=2)
        maps = []
        for k, block in enumerate(self._blocks()):
            x = _inverted_residual(x, f"block{k}", block)
            if block.ends_level:
                maps.append(x)
        return inputs, [*maps, _conv(x, "head", _HEAD, kernel=1, stride=1)]

    def _load(self, model: "keras.Model") -> None:
        from tfpt.weights import fetch, torch_checkpoint

        if self.config.weights == "none":
            return
        if self.config.weights == "imagenet":
            path = fetch.fetch(f"efficientnet_lite:{self.argument}")
        else:
            path = Path(self.config.weights).expanduser()
        if path.suffix in _TORCH_SUFFIXES:
            _assign(model, torch_checkpoint.read(path), path)
            return
        try:
            model.load_weights(path)
        except Exception as error:  # whatever h5py and Keras make of a foreign file
            reason = str(error).partition("\n")[0]
            raise UserError(f"--backbone.weights={path}: these are no weights of {model.name} ({reason}).") from error


def _blocks(variant: _Variant) -> Iterator[_Block]:
    inputs = _STEM
    for position, (kernel, stride, expansion, channels, repeats, ends_level) in enumerate(_STAGES):
        outputs = _rounded(channels * variant.width)
        if 0 < position < len(_STAGES) - 1:
            repeats = math.ceil(repeats * variant.depth)
        for k in range(repeats):
            yield _Block(
                kernel=kernel,
                stride=stride if k == 0 else 1,
                expansion=expansion,
                inputs=inputs,
                outputs=outputs,
                ends_level=ends_level and k == repeats - 1,
            )
            inputs = outputs


def _rounded(channels: float) -> int:
    """Returns the nearest multiple of 8 that is not below 90 % of `channels`, as EfficientNet counts."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _conv(x: Any, name: str, channels: int, *, kernel: int, stride: int, relu: bool = True) -> Any:
    import keras

    x = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return _normalised(x, name, relu=relu)


def _normalised(x: Any, name: str, *, relu: bool) -> Any:
    import keras

    x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x) if relu else x


def _inverted_residual(x: Any, name: str, block: _Block) -> Any:
    import keras

    start = x
    if block.expansion > 1:
        x = _conv(x, f"{name}_expand", block.inputs * block.expansion, kernel=1, stride=1)
    x = keras.layers.DepthwiseConv2D(
        block.kernel, block.stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _normalised(x, f"{name}_depthwise", relu=True)
    x = _conv(x, f"{name}_project", block.outputs, kernel=1, stride=1, relu=False)
    if block.stride == 1 and block.inputs == block.outputs:
        x = keras.layers.Add(name=f"{name}_add")([x, start])
    return x


def _assign(model: "keras.Model", tensors: Mapping[str, "np.ndarray"], path: Path) -> None:
    """Copies a torch checkpoint's tensors into the model's layers."""
    for layer in model.layers:
        if not layer.weights:
            continue
        try:
            values = list(_values(layer.name, tensors))
            expected = [tuple(weight.shape) for weight in layer.weights]
            if [value.shape for value in values] != expected:
                raise ValueError(f"{layer.name} has the shapes {[value.shape for value in values]}, not {expected}")
        except KeyError as error:
            raise UserError(f"{path}: these are no weights of {model.name}; there is no tensor {error}.") from error
        except ValueError as error:
            raise UserError(f"{path}: these are no weights of {model.name}; {error}.") from error
        layer.set_weights(values)


def _values(name: str, tensors: Mapping[str, "np.ndarray"]) -> Iterator["np.ndarray"]:
    """Yields a layer's weights in Keras' order and layout, from the checkpoint's names."""
    if name == "logits":
        yield tensors["_fc.weight"].T
        yield tensors["_fc.bias"]
        return
    part, _, rest = name.partition("_")
    prefix = f"_blocks.{part.removeprefix('block')}." if part.startswith("block") else ""
    if rest.endswith("conv"):
        torch_name = f"{prefix}_{rest}" if prefix else f"_conv_{part}"
        kernel = tensors[f"{torch_name}.weight"]  # [out, in, height, width]; a depthwise kernel has in = 1
        yield kernel.transpose(2, 3, 0, 1) if rest == "depthwise_conv" else kernel.transpose(2, 3, 1, 0)
        return
    number = {"expand_bn": 0, "depthwise_bn": 1, "project_bn": 2}[rest] if prefix else {"stem": 0, "head": 1}[part]
    for value in ("weight", "bias", "running_mean", "running_var"):
        yield tensors[f"{prefix}_bn{number}.{value}"]

"""KerasHub's trunks, for texts and for pictures, from a preset's name or a folder that `save_to_preset` wrote."""

import dataclasses
import functools
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.backbones._preset import Preset
from tfpt.backbones._token_network import FAMILIES, POOLING_HELP, POOLINGS, groups, network, text_preprocessor
from tfpt.config import setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

# Networks for pictures: what becomes of their output. A map is averaged; of a sequence, cls or mean; a tower, the half of
# a pair of networks for pictures and texts, pools by itself.
_IMAGES = MappingProxyType(
    {
        "DINOV2Backbone": "cls",
        "DINOV3Backbone": "cls",
        "DeiTBackbone": "cls",
        "DenseNetBackbone": "map",
        "EfficientNetBackbone": "map",
        "MiTBackbone": "map",
        "MobileNetBackbone": "map",
        "ResNetBackbone": "map",
        "SigLIPBackbone": "tower",
        "SwinTransformerBackbone": "mean",
        "VGGBackbone": "map",
        "ViTBackbone": "cls",
    }
)
_SIDE = 224
_LENGTH = 512


class Kerashub(Backbone):
    """`kerashub:PRESET` or `kerashub:FOLDER`.

    A preset's tokenizer must be one of WordPiece, byte-level BPE with GPT-2's words, and SentencePiece.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        pooling: str = setting("auto", POOLING_HELP, choices=POOLINGS)

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--backbone=kerashub: name a preset, such as bert_tiny_en_uncased, or a folder.")
        self._preset = Preset(argument)

    def spec(self) -> Spec:
        """Answers from the preset's config.json; for pictures the network is built, without its weights."""
        kind, settings = self._kind, self._settings
        origin = f"KerasHub preset {self.argument} ({kind})"
        if self._is_text:
            width = settings["hidden_dim"]
            return Spec(
                modality="text",
                size=settings.get("max_sequence_length") or _LENGTH,
                value_range=(0.0, float(settings.get("vocabulary_size") or settings["vocab_size"]) - 1.0),
                endpoints={"pooled": (width,), "sequence": (None, width)},
                licence="as published with the preset",
                origin=origin,
            )
        scale, offset = self._preset.scaling()
        ends = [255 * s * k + o for s, o in zip(scale, offset, strict=True) for k in (0, 1)]
        width = self._unweighted.output.shape[-1]
        endpoint = {"levels": (None, None, None)} if _IMAGES[kind] == "map" else {"sequence": (None, width)}
        return Spec(
            modality="image",
            size=self._side or _SIDE,
            value_range=(min(ends), max(ends)),
            endpoints={"pooled": (width,), **endpoint},
            parameters=self._unweighted.count_params(),
            licence="as published with the preset",
            origin=origin,
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor with the preset's vocabulary, or with its image converter's scale."""
        if not self._is_text:
            from tfpt.preprocessors.image import Image

            size = self.spec().size if options.image_size == "auto" else options.image_size
            scale, offset = self._preset.scaling()
            return Image(size=size, resize=options.resize, scale=scale, offset=offset)
        return text_preprocessor(
            FAMILIES[self._kind],
            self._preset.tokenizer,
            options,
            size=self.spec().size,
            positions=self._settings.get("max_sequence_length"),
            source=f"kerashub:{self.argument}",
        )

    def build(self, size: int) -> "keras.Model":
        """Builds the network with the preset's weights: for texts of any length, or for `size` x `size` pixels."""
        name = f"kerashub:{self.argument}"
        if self._is_text:
            family = FAMILIES[self._kind]
            pooling = family.pooling if self.config.pooling == "auto" else self.config.pooling
            return network(self._load(), family, pooling=pooling, name=name)
        if self.config.pooling not in ("auto", _IMAGES[self._kind]):
            raise UserError(f"--backbone.pooling={self.config.pooling}: {name} is for pictures; write auto.")
        if self._side not in (None, size):
            raise UserError(f"--input.image_size={size}: {name} takes {self._side} x {self._side} pixels only.")
        shape = "input_shape" if "input_shape" in self._settings else "image_shape"
        options = {} if _IMAGES[self._kind] == "tower" else {shape: (size, size, 3)}
        return _image_network(self._load(**options), _IMAGES[self._kind], name)

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the embeddings, each block, and what comes after the last one."""
        if self._is_text:
            return groups(model)
        if _IMAGES[self._kind] == "map":
            from tfpt.backbones import _functional

            return _functional.groups(model, model.output["pooled"])
        return [group for layer in model.layers if layer.weights for group in _blocks(layer)]

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns where one tensor is all that goes on, in networks that are graphs of pictures' maps."""
        if self._is_text or _IMAGES[self._kind] != "map":
            return []
        from tfpt.backbones import _functional

        return [layer.name for layer in _functional.cuts(model, model.output["pooled"])]

    @functools.cached_property
    def _config(self) -> tuple[str, dict[str, Any]]:
        try:
            import keras_hub  # noqa: F401
            import tensorflow_text  # noqa: F401
        except ImportError as error:
            raise UserError(f"--backbone=kerashub needs {error.name}; run: pip install 'tfpt[text]'.") from error
        kind, settings = self._preset.config()
        if kind not in FAMILIES and kind not in _IMAGES:
            raise UserError(
                f"--backbone=kerashub:{self.argument}: it is a {kind}; tfpt knows {', '.join((*FAMILIES, *_IMAGES))}."
            )
        return kind, settings

    @property
    def _kind(self) -> str:
        return self._config[0]

    @property
    def _settings(self) -> dict[str, Any]:
        return self._config[1]

    @property
    def _is_text(self) -> bool:
        return self._kind in FAMILIES

    @property
    def _side(self) -> int | None:
        """The side in pixels that the preset is made for; None where it takes any."""
        settings = self._settings["vision_encoder"]["config"] if "vision_encoder" in self._settings else self._settings
        return (settings.get("image_shape") or settings.get("input_shape") or (None,))[0]

    @functools.cached_property
    def _unweighted(self) -> Any:
        return self._load(load_weights=False)

    def _load(self, **options: Any) -> Any:
        import keras_hub

        try:
            loaded = getattr(keras_hub.models, self._kind).from_preset(self._preset.source(), **options)
        except Exception as error:  # a foreign or damaged preset may fail in any way
            reason = str(error).strip().partition("\n")[0].rstrip(".")[:200]
            raise UserError(f"--backbone=kerashub:{self.argument}: the preset cannot be loaded ({reason}).") from error
        return loaded.vision_encoder if _IMAGES.get(self._kind) == "tower" else loaded


def _image_network(backbone: Any, pooling: str, name: str) -> "keras.Model":
    import keras

    from tfpt.backbones import _functional

    output = backbone.output
    if pooling == "map":
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(output)
        ends = {"pooled": pooled, "levels": _functional.levels(backbone, output)}
    elif pooling == "tower":
        ends = {"pooled": output, "sequence": backbone.post_layer_norm.output}
    elif pooling == "mean":
        ends = {"pooled": keras.layers.GlobalAveragePooling1D(name="pooled")(output), "sequence": output}
    else:
        ends = {"pooled": output[:, 0, :], "sequence": output}
    return keras.Model(backbone.inputs[0], ends, name=re.sub(r"\W", "_", name))


def _blocks(layer: Any) -> list[list[Any]]:
    """Returns the layers inside an encoder or a stage, one a group; any other layer is a group of its own."""
    inner = [part for part in layer._flatten_layers(include_self=False, recursive=False) if part.weights]
    whole = sum(len(part.weights) for part in inner) == len(layer.weights)
    if re.search("encoder|stage", layer.name) and len(inner) > 1 and whole:
        return [[part] for part in inner]
    return [[layer]]

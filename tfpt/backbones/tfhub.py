"""Modules of TensorFlow Hub, and any other TF2 reusable SavedModel: pictures to features, texts to vectors."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec, _hub_network, _hub_signature
from tfpt.backbones._hub_signature import Signature, Tensor
from tfpt.config import check, setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

_SIZE = 224
_PACKING = ("tokenize", "bert_pack_inputs")


class Tfhub(Backbone):
    """`tfhub:FOLDER` or `tfhub:https://...`: a reusable SavedModel in the format of TensorFlow 2.

    Pictures: `[batch, height, width, 3]` in 0 ... 1. Texts: token ids by name, made by `--backbone.preprocessor`, the
    SavedModel that belongs to the encoder; or strings, which the module itself then turns into vectors in the input
    pipeline, where it cannot be trained.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        output: str = setting(
            "auto",
            "Which of the module's outputs is the pooled one: its key, of nested dictionaries with / between; auto: by its name.",
        )
        preprocessor: str = setting(
            "", "Folder or https address of the SavedModel that makes a text encoder's inputs of strings."
        )
        trust: bool = setting(False, "Also load modules that run Python or read and write files.")

        def __post_init__(self) -> None:
            check(bool(self.output), "output: write auto or the key of an output")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--backbone=tfhub: name the folder of a SavedModel, or the https address of a module.")
        self._read: dict[str, Signature] = {}

    def spec(self) -> Spec:
        """Answers from the module's graph."""
        signature = self._signature()
        outputs = _hub_network.shapes(signature.outputs, self._endpoints(signature))
        pooled = outputs["pooled"]
        text = self._modality(signature) != "image"
        frozen = ", run in the input pipeline and never trained" if self._modality(signature) == "strings" else ""
        return Spec(
            modality="text" if text else "image",
            size=self._length(signature) if text else self._side(signature),
            value_range=(0.0, 1.0),
            endpoints={"pooled": pooled} if frozen else outputs,
            parameters=0 if frozen else signature.parameters,
            licence="as published with the module",
            origin=f"TensorFlow Hub module {self.argument}{frozen}",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor: pixels to 0 ... 1, or the module that belongs to a text encoder."""
        signature = self._signature()
        modality = self._modality(signature)
        if modality == "image":
            from tfpt.preprocessors.image import Image

            size = self._side(signature) if options.image_size == "auto" else options.image_size
            return Image(size=size, resize=options.resize, scale=(1 / 255,) * 3)
        if modality == "strings":
            return self._hub_text(self.argument, signature, self._length(signature), embeds=True)
        made = self._signature(self._preprocessing())
        inputs = signature.inputs
        assert isinstance(inputs, Mapping)
        own = self._length(signature)
        size = own if options.max_length == "auto" else options.max_length
        packs = size != own
        if packs and not set(_PACKING) <= set(made.methods):
            raise UserError(
                f"--input.max_length={size}: {self.config.preprocessor} makes {own} tokens only, as it has no {' and '.join(_PACKING)}; "
                "leave it out."
            )
        fixed = {tensor.shape[1] for tensor in inputs.values()} - {None}
        if fixed and fixed != {size}:
            raise UserError(
                f"--input.max_length={size}: tfhub:{self.argument} takes {next(filter(None, fixed))} tokens; write that number."
            )
        names = tuple(sorted(inputs))
        return self._hub_text(self._preprocessing(), made, size, packs=packs, trims=not fixed, names=names)

    def build(self, size: int) -> "keras.Model":
        """Loads the module, for `size` x `size` pixels or `size` tokens."""
        import keras

        signature = self._signature()
        modality = self._modality(signature)
        if modality == "strings":
            vectors = keras.Input((size,), dtype="float32", name="vectors")
            same = keras.layers.Identity(name="pooled", dtype="float32")(vectors)
            return keras.Model(vectors, {"pooled": same}, name="vectors")
        if modality == "image":
            assert isinstance(signature.inputs, Tensor)
            if any(side not in (None, size) for side in signature.inputs.shape[1:3]):
                raise UserError(
                    f"--input.image_size={size}: tfhub:{self.argument} takes {self._side(signature)} pixels only; leave it out."
                )
            inputs: Any = keras.Input((size, size, 3), dtype="float32", name="image")
        else:
            assert isinstance(signature.inputs, Mapping)
            inputs = {
                name: keras.Input((tensor.shape[1],), dtype="int32", name=name)
                for name, tensor in sorted(signature.inputs.items())
            }
        _import(signature.libraries)
        name = self.argument.rstrip("/").rpartition("/")[2] or "tfhub"
        side = size if modality == "image" else None
        return _hub_network.network(
            self._folder(self.argument), inputs, self._endpoints(signature), size=side, name=f"tfhub_{name}"
        )

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the module's variables by the numbers in their names; none of a module that takes strings."""
        return _hub_network.groups(model) if model.weights else []

    def weight_files(self) -> Sequence[str]:
        """Returns the addresses that are fetched."""
        named = (self.argument, self.config.preprocessor)
        return tuple(f"tfhub:{name}" for name in named if _is_address(name))

    def _modality(self, signature: Signature) -> str:
        inputs = signature.inputs
        if isinstance(inputs, Tensor):
            if len(inputs.shape) == 4 and inputs.shape[3] in (3, None) and inputs.dtype.startswith(("float", "bfloat")):
                return "image"
            if len(inputs.shape) == 1 and inputs.dtype == "string":
                return "strings"
            listed = f"{list(inputs.shape)} {inputs.dtype}"
        else:
            if all(len(tensor.shape) == 2 and tensor.dtype.startswith("int") for tensor in inputs.values()):
                return "tokens"
            listed = ", ".join(f"{name} {list(tensor.shape)} {tensor.dtype}" for name, tensor in inputs.items())
        raise UserError(
            f"--backbone=tfhub:{self.argument} takes {listed}; a trunk takes float pictures [batch, height, width, 3], strings "
            "[batch], or a dictionary of token ids [batch, length]."
        )

    def _side(self, signature: Signature) -> int:
        assert isinstance(signature.inputs, Tensor)
        height, width = signature.inputs.shape[1:3]
        if height != width:
            raise UserError(
                f"--backbone=tfhub:{self.argument} takes {height} x {width} pixels, and tfpt makes squares; take another module."
            )
        return height or _SIZE

    def _length(self, signature: Signature) -> int:
        """Returns the tokens that the text encoder's preprocessor makes, or the width of vectors made of strings."""
        if self._modality(signature) == "strings":
            return _hub_network.shapes(signature.outputs, self._endpoints(signature))["pooled"][0] or 0
        assert isinstance(signature.inputs, Mapping)
        made = self._signature(self._preprocessing())
        missing = [name for name in sorted(signature.inputs) if len(made.outputs.get(name, _NOTHING).shape) != 2]
        if missing or not isinstance(made.inputs, Tensor) or made.inputs.dtype != "string":
            raise UserError(
                f"--backbone.preprocessor={self.config.preprocessor} does not make {missing[0] if missing else 'ids'} of strings, as "
                f"tfhub:{self.argument} takes; take the preprocessor that its page names."
            )
        lengths = {made.outputs[name].shape[1] for name in signature.inputs}
        if len(lengths) != 1 or None in lengths:
            raise UserError(
                f"--backbone.preprocessor={self.config.preprocessor} does not say how many tokens it makes."
            )
        return next(filter(None, lengths))

    def _endpoints(self, signature: Signature) -> dict[str, str]:
        flag = f"--backbone=tfhub:{self.argument}"
        return _hub_network.endpoints(signature.outputs, wanted=self.config.output, flag=flag)

    def _preprocessing(self) -> str:
        if not self.config.preprocessor:
            raise UserError(
                f"--backbone=tfhub:{self.argument} takes token ids: name the SavedModel that makes them with "
                "--backbone.preprocessor=FOLDER or its https address, which the encoder's page gives."
            )
        return self.config.preprocessor

    def _hub_text(self, name: str, signature: Signature, size: int, **options: Any) -> "Preprocessor":
        from tfpt.preprocessors.hub_text import HubText, digest

        _import(signature.libraries)
        folder = self._folder(name).absolute()
        names = options.pop("names", None) or (self._endpoints(signature)["pooled"],)
        return HubText(
            size=size, folder=str(folder), digest=digest(folder), outputs=names, modules=signature.libraries, **options
        )

    def _signature(self, name: str | None = None) -> Signature:
        name = self.argument if name is None else name
        if name not in self._read:
            flag = f"--backbone=tfhub:{name}" if name == self.argument else f"--backbone.preprocessor={name}"
            self._read[name] = _hub_signature.read(self._folder(name), flag=flag, trust=self.config.trust)
        return self._read[name]

    def _folder(self, name: str) -> Path:
        if _is_address(name):
            from tfpt.weights.fetch import fetch

            return fetch(f"tfhub:{name}")
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UserError(f"--backbone=tfhub:{name}: there is no such folder; write a folder or an https address.")
        return folder


_NOTHING = Tensor((), "")


def _is_address(name: str) -> bool:
    return name.startswith("https://")


def _import(libraries: Sequence[str]) -> None:
    import importlib

    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise UserError(f"--backbone=tfhub: this module needs {library}; run: pip install 'tfpt[text]'.") from error

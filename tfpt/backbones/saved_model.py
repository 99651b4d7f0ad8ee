"""The trunk of a model that tfpt exported, to be trained again: on another task, or on more data."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec, _hub_network, _hub_signature
from tfpt.backbones._hub_signature import Signature, Tensor
from tfpt.config import setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

_KINDS = ("image", "text", "hub_text")


class SavedModel(Backbone):
    """`saved_model:FOLDER`: `saved_models/NAME` (its newest version) or `saved_models/NAME/VERSION`.

    The host half of preprocessing is the bundle's; the device half is inside the trunk. Only preprocessors of tfpt's own
    are made from what a bundle says, so nothing of a bundle but its graph is run.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        trunk: str = setting("", "Which trunk, of a model that stands on several.")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError(
                "--backbone=saved_model: name a folder that `tfpt train` exported, such as saved_models/NAME."
            )
        self._found: tuple[Path, Signature, str, dict[str, Any]] | None = None

    def spec(self) -> Spec:
        """Answers from the trunk's graph and the bundle's description."""
        _, signature, kind, settings = self._bundle()
        return Spec(
            modality="image" if kind == "image" else "text",
            size=settings["size"],
            value_range=(0.0, 255.0),
            endpoints=_hub_network.shapes(signature.outputs, self._endpoints(signature)),
            parameters=signature.parameters,
            licence="as in the model's own card",
            origin=f"trunk of {self.argument}, exported by tfpt",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the bundle's preprocessor, with a device half that changes nothing."""
        _, signature, kind, settings = self._bundle()
        fixed = _sizes(signature)
        wanted = options.image_size if kind == "image" else options.max_length
        if wanted not in ("auto", settings["size"]) and (fixed or wanted > settings["size"]):
            flag, most = ("image_size", "only") if kind == "image" else ("max_length", "only" if fixed else "at most")
            raise UserError(
                f"--input.{flag}={wanted}: saved_model:{self.argument} takes {most} {settings['size']}; leave it out."
            )
        size = settings["size"] if wanted == "auto" else wanted
        if kind == "image":
            from tfpt.preprocessors.image import Image

            image = Image.from_json(settings)
            return Image(size=size, resize=image.resize, feature=image.feature)
        if kind == "text":
            from tfpt.layers.token_rows import ROLES
            from tfpt.preprocessors.text import Text

            text = Text.from_json(settings)
            # A task asks for offsets, words and a whole second text by itself; the one it was exported with may have.
            text = dataclasses.replace(text, offsets=False, words=False, first_length=0)
            return dataclasses.replace(text, size=size, inputs={role: role for role in ROLES}, padding=0)
        from tfpt.preprocessors.hub_text import HubText

        return HubText.from_json(settings)

    def build(self, size: int) -> "keras.Model":
        """Loads the trunk."""
        import keras

        folder, signature, kind, settings = self._bundle()
        made = self._endpoints(signature)
        if kind == "image":
            device: Any = keras.Input((size, size, 3), dtype="float32", name="image")
            inputs = device
        elif kind == "text":
            from tfpt.layers.token_rows import ROLES, TokenRows

            device = {role: keras.Input((None,), dtype="int32", name=role) for role in ROLES}
            inputs = TokenRows(name="rows")(device)
        elif settings["embeds"]:
            device = inputs = keras.Input((size,), dtype="float32", name="vectors")
        else:
            names = settings["outputs"]
            length = None if settings["trims"] else size
            device = {name: keras.Input((length,), dtype="int32", name=name) for name in names}
            inputs = keras.ops.stack([device[name] for name in names], axis=-1)
        return _hub_network.network(folder, inputs, made, device=device, size=size, name="saved_model")

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the trunk's variables by the numbers in their names."""
        return _hub_network.groups(model)

    def _endpoints(self, signature: Signature) -> dict[str, str]:
        return _hub_network.endpoints(signature.outputs, wanted="auto", flag=f"--backbone=saved_model:{self.argument}")

    def _bundle(self) -> tuple[Path, Signature, str, dict[str, Any]]:
        if self._found is None:
            flag = f"--backbone=saved_model:{self.argument}"
            extra = _newest(Path(self.argument).expanduser(), flag) / "assets.extra"
            try:
                trunks = json.loads((extra / "tfpt.json").read_text(encoding="utf-8"))["preprocessors"]
                name = self.config.trunk or next(iter(trunks))
                if name not in trunks or (len(trunks) > 1 and not self.config.trunk):
                    raise UserError(
                        f"{flag} has the trunks {', '.join(trunks)}; name one of them with --backbone.trunk."
                    )
                kind, settings = trunks[name]
            except OSError as error:
                raise UserError(
                    f"{flag}: {extra.parent} was not exported by tfpt (it has no assets.extra/tfpt.json); a TF2 SavedModel of "
                    "another origin is --backbone=tfhub:FOLDER."
                ) from error
            except (ValueError, TypeError, KeyError, StopIteration) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(f"{flag}: {extra / 'tfpt.json'} is damaged; export the model again.") from error
            if kind not in _KINDS:
                raise UserError(
                    f"{flag}: its preprocessor {kind} is not one of tfpt's {', '.join(_KINDS)}, so its trunk cannot be fed again."
                )
            folder = extra / (f"trunk-{name}" if len(trunks) > 1 else "trunk")
            self._found = folder, _hub_signature.read(folder, flag=flag), kind, settings
        return self._found


def _sizes(signature: Signature) -> bool:
    """Tells whether the trunk takes one size only."""
    assert isinstance(signature.inputs, Tensor)
    return signature.inputs.shape[1] is not None


def _newest(folder: Path, flag: str) -> Path:
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [f for f in folder.iterdir() if f.name.isascii() and f.name.isdecimal()] if folder.is_dir() else []
    if not versions:
        what = "holds no version folder" if folder.is_dir() else "is not there"
        raise UserError(
            f"{flag}: {folder} {what}; name a folder that `tfpt train` exported, such as saved_models/NAME."
        )
    return max(versions, key=lambda version: int(version.name))

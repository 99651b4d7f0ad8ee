"""The files of a KerasHub preset: what its JSON says, its tokenizer, its image converter."""

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import _folder_tokenizer
from tfpt.backbones._folder_tokenizer import FAIRSEQ, FolderTokenizer
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.layers.tokens import Tokenizer

_ASSETS = "assets/tokenizer"


@dataclasses.dataclass(frozen=True)
class Preset:
    """A folder that `save_to_preset` wrote, or the name of a published preset."""

    name: str

    def json(self, file: str) -> dict[str, Any]:
        """Returns the content of a JSON file.

        Raises:
            UserError: the preset cannot be had, or has no such file.
        """
        path = self.path(file)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--backbone=kerashub:{self.name}: its {file} cannot be read ({error}).") from error

    def path(self, file: str) -> Path:
        """Returns where a file of the preset is; a published preset's is brought.

        Raises:
            UserError: there is no such file.
        """
        folder = Path(self.name).expanduser()
        if folder.is_dir():
            if not (folder / file).is_file():
                raise UserError(
                    f"--backbone=kerashub:{self.name}: the folder has no {file}; write it with save_to_preset."
                )
            return folder / file
        if folder.is_absolute() or self.name.startswith("."):
            raise UserError(f"--backbone=kerashub:{self.name}: there is no such folder.")
        if _offline():
            return self._kept(file)
        from keras_hub.src.utils import preset_utils

        try:
            return Path(preset_utils.get_file(self.name, file))
        except Exception as error:  # each host's library raises its own
            reason = str(error).strip().partition("\n")[0].rstrip(".")[:160]
            raise UserError(
                f"--backbone=kerashub:{self.name}: there is no such folder, and the preset cannot be had ({reason})."
            ) from error

    def source(self) -> str:
        """Returns what KerasHub's own loader is to be given: the name, or the folder where nothing may be fetched."""
        return str(self.path("config.json").parent) if _offline() else self.name

    def _kept(self, file: str) -> Path:
        """Returns a file of a published preset that an earlier run brought, whatever its version."""
        from keras_hub.src.utils import preset_utils

        handle = preset_utils.BUILTIN_PRESETS.get(self.name, {}).get("kaggle_handle", self.name)
        if handle.startswith("kaggle://"):
            import kagglehub.config

            folder = Path(kagglehub.config.get_cache_folder(), "models", handle.removeprefix("kaggle://"))
            for path in (folder / file, *sorted(folder.glob(f"[0-9]*/{file}"), reverse=True)):
                if path.is_file():
                    return path
        raise UserError(
            f"--backbone=kerashub:{self.name}: {file} is not on this machine, and TFPT_OFFLINE forbids to fetch it;"
            " name a folder that save_to_preset wrote, or run once with the network."
        )

    def config(self) -> tuple[str, dict[str, Any]]:
        """Returns the name of the backbone's class and its settings."""
        whole = self.json("config.json")
        try:
            return whole["registered_name"].removeprefix("keras_hub>"), whole["config"]
        except (KeyError, AttributeError) as error:
            raise UserError(f"--backbone=kerashub:{self.name}: its config.json is not KerasHub's.") from error

    def tokenizer(self) -> FolderTokenizer:
        """Reads the tokenizer.

        Raises:
            UserError: its files are missing or are of an unknown kind.
        """
        whole = self.json("tokenizer.json")
        settings = whole["config"]
        if "suffix_indicator" in settings:
            tokenizer, ids = self._word_pieces(settings)
        elif "unsplittable_tokens" in settings or "merges" in settings:
            path = self.path(f"{_ASSETS}/merges.txt")
            self.path(f"{_ASSETS}/vocabulary.json")
            tokenizer, ids = _folder_tokenizer.byte_pairs(
                json.loads((path.parent / "vocabulary.json").read_text(encoding="utf-8")),
                path.read_text(encoding="utf-8").split("\n"),
                prefix_space=bool(settings.get("add_prefix_space")),
                source=f"kerashub:{self.name}",
            )
        elif "proto" in settings:
            fairseq = FAIRSEQ["xlm-roberta"] if whole["class_name"] == "XLMRobertaTokenizer" else None
            path = self.path(f"{_ASSETS}/vocabulary.spm")
            tokenizer, ids = _folder_tokenizer.sentence_pieces(path.read_bytes(), str(path), fairseq=fairseq)
        else:
            raise UserError(f"--backbone=kerashub:{self.name}: tfpt does not know {whole['class_name']}.")
        return _folder_tokenizer.with_special(tokenizer, ids, {})

    def _word_pieces(self, settings: dict[str, Any]) -> tuple["Tokenizer", dict[str, int]]:
        from tfpt.layers.word_pieces import WordPieces

        text = self.path(f"{_ASSETS}/vocabulary.txt").read_text(encoding="utf-8")
        vocabulary = tuple(text.removesuffix("\n").split("\n"))
        tokenizer = WordPieces(vocabulary, lowercase=bool(settings["lowercase"]), unknown=settings["oov_token"])
        return tokenizer, {piece: k for k, piece in enumerate(vocabulary)}

    def scaling(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Returns the image converter's scale and offset of each channel."""
        settings = self.json("image_converter.json")["config"]
        return _channels(settings.get("scale"), 1.0), _channels(settings.get("offset"), 0.0)


def _offline() -> bool:
    return os.environ.get("TFPT_OFFLINE", "0") not in ("", "0")


def _channels(value: Any, default: float) -> tuple[float, float, float]:
    values = value if isinstance(value, list) else [default if value is None else value] * 3
    return (float(values[0]), float(values[1]), float(values[2]))

"""Text trunks from a Hugging Face folder: config.json, weights and tokenizer, read without Transformers or torch."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, CheckpointHead, Spec, _folder_tokenizer
from tfpt.backbones._from_transformers import KINDS, Kind
from tfpt.backbones._token_network import POOLING_HELP, POOLINGS, groups, network, text_preprocessor
from tfpt.config import setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor
    from tfpt.weights.catalogue import Entry
    from tfpt.weights.tensor_folder import TensorFolder

_SHOWN = 4


class Hf(Backbone):
    """`hf:FOLDER`, a name of the catalogue (`hf:minilm_l6`), or what the Hugging Face hub has: `hf:ORGANISATION/NAME`,
    `hf:ORGANISATION/NAME@REVISION`.

    Attributes:
        loaded: after `build`, the tensors that were used, missing and ignored.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        pooling: str = setting("auto", POOLING_HELP, choices=POOLINGS)

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--backbone=hf: name a folder, ORGANISATION/NAME or hf:minilm_l6.")
        self.loaded: TensorFolder | None = None
        self._of_head: set[str] = set()

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns the names of the catalogue; a folder or a name of the hub may stand instead of one."""
        from tfpt.weights.catalogue import CATALOGUE

        return tuple(name.removeprefix("hf:") for name in CATALOGUE if name.startswith("hf:"))

    def spec(self) -> Spec:
        """Answers from config.json."""
        width = self._config[self._kind.width]
        pipeline = _folder_tokenizer.read_json(self._folder / "sentence_bert_config.json", {})
        longest = pipeline.get("max_seq_length") or self._positions
        return Spec(
            modality="text",
            size=min(self._positions, longest),
            value_range=(0.0, float(self._config["vocab_size"] - 1)),
            endpoints={"pooled": (width,), "sequence": (None, width)},
            licence=self._entry.licence if self._entry else "as published with the folder",
            origin=self._origin(),
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor with the folder's own vocabulary."""
        _needs_text()
        return text_preprocessor(
            self._kind.family,
            lambda: _folder_tokenizer.read(self._folder, self._config),
            options,
            size=self.spec().size,
            positions=self._positions,
            source=self._source,
        )

    def build(self, size: int) -> "keras.Model":
        """Builds the network for texts of any length up to the position table, and loads the folder's weights."""
        _needs_text()
        from tfpt.backbones._from_transformers import convert
        from tfpt.weights.tensor_folder import TensorFolder

        tensors = TensorFolder(self._folder)
        backbone = convert(self._config, tensors, self._source)
        pooling = self._pooling
        missing = [name for name in tensors.missing if "pooler" not in name or pooling == "pooler"]
        if missing:
            raise UserError(
                f"--backbone={self._source}: {len(missing)} tensors are missing from the weights, {missing[0]} among them; "
                "the folder is not complete, or holds another model."
            )
        self.loaded = tensors
        return network(backbone, self._kind.family, pooling=pooling, name=self._source)

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the embeddings, each transformer layer, and what comes after the last one."""
        return groups(model)

    def weight_files(self) -> Sequence[str]:
        """Returns the name in the catalogue or of the hub; a folder needs nothing."""
        return (self._entry.name,) if self._entry else ()

    def spec_files(self) -> Sequence[str]:
        """Returns the same: config.json and the tokenizer come with the weights."""
        return self.weight_files()

    def head(self) -> CheckpointHead | None:
        """Returns the head of a ...ForSequenceClassification or ...ForTokenClassification."""
        from tfpt.backbones._checkpoint_heads import read_head
        from tfpt.weights.tensor_folder import TensorFolder

        tensors = TensorFolder(self._folder)
        head = read_head(self._config, tensors, self._source)
        if head is not None and head.endpoint == "pooled" and self._pooling != "cls":
            raise UserError(
                f"--backbone.pooling={self._pooling}: the head of {self._source} reads the first token; write auto or cls."
            )
        self._of_head = tensors.used
        return head

    def loading_notes(self) -> Sequence[str]:
        """Says which tensors the network took, and which nothing took."""
        if self.loaded is None:
            return ()
        note = f"{self._source}: {len(self.loaded.used)} tensors loaded into the backbone"
        if self._of_head:
            note += f", {len(self._of_head)} into the head"
        if self.loaded.missing:
            note += f"; there is no {_listed(self.loaded.missing)}, and nothing needs it"
        ignored = [name for name in self.loaded.ignored if name not in self._of_head]
        if ignored:
            note += f"; left out: {_listed(ignored)}"
        added = _folder_tokenizer.added_tokens(self._folder)
        if added:
            words = f"{self._source}: its tokenizer adds words to its vocabulary ({_listed(added)}), which are split here like any other text."
            return (f"{note}.", words)
        return (f"{note}.",)

    @property
    def _source(self) -> str:
        return f"hf:{self.argument}"

    @functools.cached_property
    def _entry(self) -> "Entry | None":
        """What can be fetched under this name; None of a folder."""
        from tfpt.weights import catalogue

        if Path(self.argument).expanduser().is_dir():
            return None
        try:
            return catalogue.find(self._source)
        except UserError as error:
            raise UserError(
                f"--backbone={self._source}: there is no such folder; name one, or ORGANISATION/NAME of the Hugging Face "
                f"hub, or {', '.join(self.variants())}."
            ) from error

    @functools.cached_property
    def _folder(self) -> Path:
        if self._entry is None:
            return Path(self.argument).expanduser()
        from tfpt.weights.fetch import fetched

        if folder := fetched(self._entry.name):
            return folder
        raise UserError(
            f"--backbone={self._source}: there is no such folder, and it is not fetched yet; run `tfpt fetch {self._source}`."
        )

    @functools.cached_property
    def _config(self) -> Mapping[str, Any]:
        config = _folder_tokenizer.read_json(self._folder / "config.json")
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in KINDS:
            raise UserError(
                f"--backbone={self._source}: its config.json says model_type {kind}; tfpt reads {', '.join(KINDS)}."
            )
        return {
            "num_hidden_layers": config.get("encoder_layers"),
            **config,
        }  # BART's may have the one without the other

    @property
    def _kind(self) -> Kind:
        return KINDS[self._config["model_type"]]

    @property
    def _positions(self) -> int:
        rows = self._config.get("max_position_embeddings", self._config.get("n_positions", 512))
        return rows - self._kind.skipped

    @property
    def _pooling(self) -> str:
        if self.config.pooling != "auto":
            return self.config.pooling
        pipeline = _folder_tokenizer.read_json(self._folder / "1_Pooling" / "config.json", {})
        asked = [key for key, value in pipeline.items() if key.startswith("pooling_mode") and value is True]
        known = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}
        if len(asked) > 1 or not known.keys() >= set(asked):
            raise UserError(
                f"--backbone.pooling=auto: 1_Pooling/config.json of {self._source} says {' and '.join(asked)}, which tfpt does not have; "
                "write cls, mean or last."
            )
        return known[asked[0]] if asked else self._kind.family.pooling

    def _origin(self) -> str:
        from tfpt.weights.hub import commit_of

        if self._entry is None:
            return f"Hugging Face folder {self.argument} ({self._config['model_type']})"
        commit = commit_of(self._folder)
        return f"{self._entry.origin}{f', commit {commit}' if commit else ''}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _needs_text() -> None:
    try:
        import keras_hub  # noqa: F401
        import tensorflow_text  # noqa: F401
    except ImportError as error:
        raise UserError(f"--backbone=hf needs {error.name}; run: pip install 'tfpt[text]'.") from error

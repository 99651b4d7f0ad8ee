"""Text trunks from a Hugging Face folder: config.json, weights and tokenizer, read without Transformers or torch."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec, _folder_tokenizer
from tfpt.backbones._token_network import FAMILIES, POOLING_HELP, POOLINGS, around, groups, network
from tfpt.config import setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor
    from tfpt.weights.tensor_folder import TensorFolder

# model_type -> KerasHub's class, the positions that it numbers from further up, and how config.json calls its width.
_TYPES = {
    "albert": ("AlbertBackbone", 0, "hidden_size"),
    "bart": ("BartBackbone", 0, "d_model"),
    "bert": ("BertBackbone", 0, "hidden_size"),
    "distilbert": ("DistilBertBackbone", 0, "dim"),
    "gpt2": ("GPT2Backbone", 0, "n_embd"),
    "roberta": ("RobertaBackbone", 2, "hidden_size"),
    "xlm-roberta": ("XLMRobertaBackbone", 2, "hidden_size"),
}
_ACTIVATIONS = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True, "gelu_fast": True}
"""Name in config.json -> whether it is the approximation by tanh (Hendrycks & Gimpel, 2016, arXiv:1606.08415)."""
_DOWNLOADED = ["*.json", "vocab.txt", "merges.txt", "*.model", "*.safetensors", "1_Pooling/config.json"]
_PATIENCE = 10.0


class Hf(Backbone):
    """`hf:FOLDER`, a name of the catalogue (`hf:minilm_l6`), or `hf:ORGANISATION/NAME` from the user's Hugging Face cache
    or, where there is a network, from the hub.

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
        self._found: Path | None = None

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns the names of the catalogue; a folder may stand instead of one."""
        from tfpt.weights.catalogue import CATALOGUE

        return tuple(name.removeprefix("hf:") for name in CATALOGUE if name.startswith("hf:"))

    def spec(self) -> Spec:
        """Answers from config.json."""
        folder, config = self._folder(), self._config()
        width = _TYPES[config["model_type"]][2]
        positions = self._positions()
        pipeline = _folder_tokenizer.read_json(folder / "sentence_bert_config.json", {})
        longest = pipeline.get("max_seq_length") or positions
        return Spec(
            modality="text",
            size=min(positions, longest),
            value_range=(0.0, float(config["vocab_size"] - 1)),
            endpoints={"pooled": (config[width],), "sequence": (None, config[width])},
            licence=self._entry.licence if self._entry else "as published with the folder",
            origin=self._entry.origin
            if self._entry
            else f"Hugging Face folder {self.argument} ({config['model_type']})",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor with the folder's own vocabulary."""
        from tfpt.preprocessors.text import Text

        family = FAMILIES[_TYPES[self._config()["model_type"]][0]]
        positions = self._positions()
        size = self.spec().size if options.max_length == "auto" else options.max_length
        if size > positions:
            raise UserError(
                f"--input.max_length={size}: hf:{self.argument} has {positions} positions; write at most that."
            )
        _needs_text()
        found = _folder_tokenizer.read(self._folder(), self._config())
        before, between, after = around(family, begin=found.begin, end=found.end)
        return Text(
            size=size,
            tokenizer=found.tokenizer,
            before=before,
            between=between,
            after=after,
            inputs=family.inputs,
            padding=found.padding,
        )

    def build(self, size: int) -> "keras.Model":
        """Builds the network for texts of any length up to the position table, and loads the folder's weights."""
        _needs_text()
        from tfpt.weights.tensor_folder import TensorFolder

        folder, config = self._folder(), self._config()
        tensors = TensorFolder(folder)
        # The one converter alone: KerasHub's public loader imports them all, and a package that only some of them need.
        kind = config["model_type"].replace("-", "_")
        converter = importlib.import_module(f"keras_hub.src.utils.transformers.convert_{kind}")
        try:
            backbone = converter.backbone_cls(**converter.convert_backbone_config(config))
            converter.convert_weights(backbone, tensors, config)
        except KeyError as error:
            raise UserError(
                f"--backbone=hf:{self.argument}: {error.args[0]} is missing from config.json or weights."
            ) from error
        pooling = self._pooling()
        missing = [name for name in tensors.missing if "pooler" not in name or pooling == "pooler"]
        if missing:
            raise UserError(
                f"--backbone=hf:{self.argument}: {len(missing)} tensors are missing from the weights, {missing[0]} among "
                "them; the folder is not complete, or holds another model."
            )
        _as_configured(backbone, config)
        _fold_token_types(backbone, tensors)
        self.loaded = tensors
        return network(backbone, FAMILIES[type(backbone).__name__], pooling=pooling, name=f"hf:{self.argument}")

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the embeddings, each transformer layer, and what comes after the last one."""
        return groups(model)

    def weight_files(self) -> Sequence[str]:
        """Returns the catalogue's name, when it is one of its."""
        return (self._entry.name,) if self._entry else ()

    @property
    def _entry(self) -> Any:
        from tfpt.weights.catalogue import CATALOGUE

        known = {name.lower(): entry for name, entry in CATALOGUE.items()}
        return None if Path(self.argument).is_dir() else known.get(f"hf:{self.argument.lower()}")

    def _folder(self) -> Path:
        if self._found is None:
            folder = Path(self.argument).expanduser()
            if self._entry is not None:
                from tfpt.weights.fetch import fetch

                folder = fetch(self._entry.name)
            elif not folder.is_dir():
                folder = _from_hub(self.argument)
            self._found = folder
        return self._found

    def _config(self) -> Mapping[str, Any]:
        config = _folder_tokenizer.read_json(self._folder() / "config.json")
        kind = config.get("model_type")
        if kind not in _TYPES:
            raise UserError(
                f"--backbone=hf:{self.argument}: its config.json says model_type {kind}; tfpt reads {', '.join(_TYPES)}."
            )
        return {
            "num_hidden_layers": config.get("encoder_layers"),
            **config,
        }  # BART's may have the one without the other

    def _positions(self) -> int:
        config = self._config()
        rows = config.get("max_position_embeddings", config.get("n_positions", 512))
        return rows - _TYPES[config["model_type"]][1]

    def _pooling(self) -> str:
        if self.config.pooling != "auto":
            return self.config.pooling
        pipeline = _folder_tokenizer.read_json(self._folder() / "1_Pooling" / "config.json", {})
        for key, pooling in (("pooling_mode_cls_token", "cls"), ("pooling_mode_mean_tokens", "mean")):
            if pipeline.get(key):
                return pooling
        return FAMILIES[_TYPES[self._config()["model_type"]][0]].pooling


def _needs_text() -> None:
    try:
        import keras_hub  # noqa: F401
        import tensorflow_text  # noqa: F401
    except ImportError as error:
        raise UserError(f"--backbone=hf needs {error.name}; run: pip install 'tfpt[text]'.") from error


def _from_hub(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"--backbone=hf:{name}: there is no such folder; name one, or ORGANISATION/NAME, or {', '.join(Hf.variants())}."
        )
    _needs_text()
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True, allow_patterns=_DOWNLOADED))
    except Exception:  # it is not in the cache, in whatever way
        pass
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_DOWNLOADED, etag_timeout=_PATIENCE))
    except Exception as error:  # the hub's library raises what its transport raises
        reason = str(error).strip().partition("\n")[0].rstrip(".")[:200]
        raise UserError(
            f"--backbone=hf:{name}: there is no such folder, it is not in the Hugging Face cache, and the hub did not give "
            f"it ({type(error).__name__}: {reason})."
        ) from error


def _as_configured(backbone: Any, config: Mapping[str, Any]) -> None:
    """Sets what KerasHub's converters take for granted: the activation, and the epsilon of normalisation.

    KerasHub's BERT has the tanh approximation of GELU where the checkpoints were trained with GELU itself.
    """
    import keras

    name = config.get("hidden_act") or config.get("activation") or config.get("activation_function")
    for layer in backbone._flatten_layers():
        if name in _ACTIVATIONS and hasattr(layer, "_feedforward_intermediate_dense"):
            gelu = functools.partial(keras.activations.gelu, approximate=_ACTIVATIONS[name])
            layer._feedforward_intermediate_dense.activation = gelu
        if "layer_norm_eps" in config and isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = config["layer_norm_eps"]


def _fold_token_types(backbone: Any, tensors: "TensorFolder") -> None:
    """Adds the first token type to the positions, where a network without segments was trained with one (RoBERTa)."""
    name = "embeddings.token_type_embeddings.weight"
    if tensors.find(name) in tensors.used or tensors.find(name) is None:
        return
    (table,) = (v for v in backbone.variables if v.path.endswith("position_embedding/embeddings"))
    table.assign(table + tensors.get_tensor(name)[0])

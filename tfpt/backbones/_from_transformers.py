"""From Transformers' settings and tensors to KerasHub's networks for texts.

Most families have a converter in KerasHub; ELECTRA and DeBERTa have theirs here.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.backbones._token_network import FAMILIES, Family
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.weights.tensor_folder import TensorFolder

Config = Mapping[str, Any]
"""What config.json says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A `model_type` of config.json.

    Attributes:
        backbone: KerasHub's class.
        width: what config.json calls the width.
        skipped: how many rows of the table of positions stand before the first position.
        converter: KerasHub's module; empty where the converter is here.
    """

    backbone: str
    width: str = "hidden_size"
    skipped: int = 0
    converter: str = ""

    @property
    def family(self) -> Family:
        """How it is fed."""
        return FAMILIES[self.backbone]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "albert": Kind(backbone="AlbertBackbone", converter="albert"),
        "bart": Kind(backbone="BartBackbone", width="d_model", converter="bart"),
        "bert": Kind(backbone="BertBackbone", converter="bert"),
        "camembert": Kind(backbone="RobertaBackbone", skipped=2, converter="roberta"),
        "deberta-v2": Kind(backbone="DebertaV3Backbone"),
        "distilbert": Kind(backbone="DistilBertBackbone", width="dim", converter="distilbert"),
        "electra": Kind(backbone="ElectraBackbone"),
        "gpt2": Kind(backbone="GPT2Backbone", width="n_embd", converter="gpt2"),
        "roberta": Kind(backbone="RobertaBackbone", skipped=2, converter="roberta"),
        "xlm-roberta": Kind(backbone="XLMRobertaBackbone", skipped=2, converter="xlm_roberta"),
    }
)
ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "gelu": "gelu",
        "gelu_fast": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "linear": "linear",
        "relu": "relu",
        "silu": "silu",
        "tanh": "tanh",
    }
)
"""Name in config.json -> our name; `gelu_tanh` is the approximation by tanh (Hendrycks & Gimpel, 2016, arXiv:1606.08415)."""


def convert(config: Config, tensors: "TensorFolder", where: str) -> Any:
    """Returns KerasHub's backbone with the tensors in it.

    Args:
        config: `model_type` is one of `KINDS`.
        tensors: is told which were taken and which are missing.
        where: the backbone's name, for messages.

    Raises:
        UserError: a setting is missing, or asks for what KerasHub's network cannot do.
    """
    kind = KINDS[config["model_type"]]
    try:
        if kind.converter:
            # The one converter alone: KerasHub's public loader imports them all, and a package that only some of them need.
            converter = importlib.import_module(f"keras_hub.src.utils.transformers.convert_{kind.converter}")
            backbone = converter.backbone_cls(**converter.convert_backbone_config(config))
            converter.convert_weights(backbone, tensors, config)
        else:
            backbone = _OURS[config["model_type"]](config, tensors, where)
    except KeyError as error:
        raise UserError(f"--backbone={where}: {error.args[0]} is missing from config.json or weights.") from error
    _as_configured(backbone, config, where)
    _fold_token_types(backbone, tensors)
    return backbone


def _electra(config: Config, tensors: "TensorFolder", where: str) -> Any:
    import keras_hub

    backbone = keras_hub.models.ElectraBackbone(
        vocab_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        embedding_dim=config["embedding_size"],
        intermediate_dim=config["intermediate_size"],
        max_sequence_length=config["max_position_embeddings"],
        num_segments=config.get("type_vocab_size", 2),
    )
    embeddings = "embeddings.{}_embeddings.weight"
    tensors.port_weight(backbone.token_embedding.embeddings, embeddings.format("word"))
    tensors.port_weight(backbone.position_embedding.position_embeddings, embeddings.format("position"))
    tensors.port_weight(backbone.segment_embedding.embeddings, embeddings.format("token_type"))
    _norm(tensors, backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    if config["embedding_size"] != config["hidden_size"]:
        _dense(tensors, backbone.embeddings_projection, "embeddings_project")
    for k, block in enumerate(backbone.transformer_layers):
        attention = block._self_attention_layer
        parts = {"query": attention.query_dense, "key": attention.key_dense, "value": attention.value_dense}
        _block(tensors, block, f"encoder.layer.{k}", {**parts, "output": attention.output_dense})
    _dense(tensors, backbone.pooled_dense, "pooler.dense")  # the published checkpoints have none
    return backbone


def _deberta(config: Config, tensors: "TensorFolder", where: str) -> Any:
    import keras_hub

    asked = config.get("pos_att_type") or ()
    needed = {
        "relative_attention": config.get("relative_attention"),
        "pos_att_type": set(asked.split("|") if isinstance(asked, str) else asked) == {"c2p", "p2c"},
        "share_att_key": config.get("share_att_key"),
        "norm_rel_ebd": config.get("norm_rel_ebd") == "layer_norm",
        "position_buckets": config.get("position_buckets", -1) > 0,
        "position_biased_input": not config.get("position_biased_input", True),
        "type_vocab_size": not config.get("type_vocab_size"),
        "conv_kernel_size": not config.get("conv_kernel_size"),
        "embedding_size": config.get("embedding_size", config["hidden_size"]) == config["hidden_size"],
    }
    if wrong := [name for name, right in needed.items() if not right]:
        raise UserError(
            f"--backbone={where}: its config.json has {wrong[0]}={config.get(wrong[0])}, and tfpt knows DeBERTa as version 3 "
            "is; choose microsoft/deberta-v3-small or one like it."
        )
    farthest = config.get("max_relative_positions", -1)
    backbone = keras_hub.models.DebertaV3Backbone(
        vocabulary_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        max_sequence_length=farthest if farthest > 0 else config["max_position_embeddings"],
        bucket_size=config["position_buckets"],
    )
    tensors.port_weight(backbone.token_embedding.embeddings, "embeddings.word_embeddings.weight")
    _norm(tensors, backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    tensors.port_weight(backbone.relative_embeddings.rel_embeddings, "encoder.rel_embeddings.weight")
    _norm(tensors, backbone.relative_embeddings.layer_norm, "encoder.LayerNorm")
    for k, block in enumerate(backbone.transformer_layers):
        inner = block._self_attention_layer
        parts = {"query_proj": inner._query_dense, "key_proj": inner._key_dense, "value_proj": inner._value_dense}
        _block(tensors, block, f"encoder.layer.{k}", {**parts, "output": inner._output_dense})
    return backbone


_OURS: Mapping[str, Callable[[Config, "TensorFolder", str], Any]] = MappingProxyType(
    {"deberta-v2": _deberta, "electra": _electra}
)


def _block(tensors: "TensorFolder", block: Any, name: str, attention: Mapping[str, Any]) -> None:
    for part, layer in attention.items():
        _dense(tensors, layer, f"{name}.attention.{'output.dense' if part == 'output' else f'self.{part}'}")
    _norm(tensors, block._self_attention_layer_norm, f"{name}.attention.output.LayerNorm")
    _dense(tensors, block._feedforward_intermediate_dense, f"{name}.intermediate.dense")
    _dense(tensors, block._feedforward_output_dense, f"{name}.output.dense")
    _norm(tensors, block._feedforward_layer_norm, f"{name}.output.LayerNorm")


def _dense(tensors: "TensorFolder", layer: Any, name: str) -> None:
    # torch's weights are [out, in]; KerasHub's may have heads as an axis of their own.
    tensors.port_weight(layer.kernel, f"{name}.weight", lambda values, shape: values.T.reshape(shape))
    tensors.port_weight(layer.bias, f"{name}.bias", lambda values, shape: values.reshape(shape))


def _norm(tensors: "TensorFolder", layer: Any, name: str) -> None:
    tensors.port_weight(layer.gamma, f"{name}.weight")
    tensors.port_weight(layer.beta, f"{name}.bias")


def _as_configured(backbone: Any, config: Config, where: str) -> None:
    """Sets what KerasHub's networks take for granted: the activation, and the epsilon of normalisation.

    KerasHub's BERT has the tanh approximation of GELU where the checkpoints were trained with GELU itself.
    """
    import keras

    from tfpt.layers.dense_stack import activation

    name = config.get("hidden_act") or config.get("activation") or config.get("activation_function") or "gelu"
    if name not in ACTIVATIONS:
        raise UserError(f"--backbone={where}: its activation is {name}, and tfpt knows {', '.join(ACTIVATIONS)}.")
    for layer in backbone._flatten_layers():
        if hasattr(layer, "_feedforward_intermediate_dense"):
            layer._feedforward_intermediate_dense.activation = activation(ACTIVATIONS[name])
        if "layer_norm_eps" in config and isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = config["layer_norm_eps"]


def _fold_token_types(backbone: Any, tensors: "TensorFolder") -> None:
    """Adds the first token type to the positions, where a network without segments was trained with one (RoBERTa)."""
    name = "embeddings.token_type_embeddings.weight"
    if tensors.find(name) in tensors.used or tensors.find(name) is None:
        return
    (table,) = (v for v in backbone.variables if v.path.endswith("position_embedding/embeddings"))
    table.assign(table + tensors.get_tensor(name)[0])

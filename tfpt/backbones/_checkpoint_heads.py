"""The head of a fine-tuned Hugging Face checkpoint: dense layers from the trunk's output to logits."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.backbones import CheckpointHead
from tfpt.backbones._from_transformers import ACTIVATIONS
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from tfpt.weights.tensor_folder import TensorFolder

_DENSE_TANH = (("classifier.dense", "tanh"), ("classifier.out_proj", "linear"))
# model_type -> the dense layers (name of the tensors, activation) of its ...ForSequenceClassification, on the first token;
# `pooler_hidden_act` is what config.json calls DeBERTa's.
_OF_SEQUENCES: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType(
    {
        "albert": (("pooler", "tanh"), ("classifier", "linear")),
        "bert": (("pooler.dense", "tanh"), ("classifier", "linear")),
        "camembert": _DENSE_TANH,
        "deberta-v2": (("pooler.dense", "pooler_hidden_act"), ("classifier", "linear")),
        "distilbert": (("pre_classifier", "relu"), ("classifier", "linear")),
        "electra": (("classifier.dense", "gelu"), ("classifier.out_proj", "linear")),
        "roberta": _DENSE_TANH,
        "xlm-roberta": _DENSE_TANH,
    }
)
_PROBLEMS = MappingProxyType(
    {
        "single_label_classification": "single",
        "multi_label_classification": "multi",
        "regression": "regression",
    }
)


def read_head(config: Mapping[str, Any], tensors: "TensorFolder", where: str) -> CheckpointHead | None:
    """Returns the head of a ...ForSequenceClassification or ...ForTokenClassification; None of any other checkpoint.

    Args:
        config: what config.json says.
        tensors: is told which were taken.
        where: the backbone's name, for messages.

    Raises:
        UserError: tensors are missing, do not fit each other, or do not fit config.json.
    """
    architecture = next(iter(config.get("architectures") or ()), "")
    kind = config["model_type"]
    if architecture.endswith("ForSequenceClassification") and kind in _OF_SEQUENCES:
        names, endpoint = _OF_SEQUENCES[kind], "pooled"
    elif architecture.endswith("ForTokenClassification"):
        names, endpoint = (("classifier", "linear"),), "sequence"
    else:
        return None
    layers = tuple(_layer(name, activation, config, tensors, where) for name, activation in names)
    widths = [(kernel.shape, bias.shape) for kernel, bias, _ in layers]
    if any(len(kernel) != 2 or bias != kernel[1:] for kernel, bias in widths) or any(
        left[0][1] != right[0][0] for left, right in itertools.pairwise(widths)
    ):
        raise UserError(f"--backbone={where}: the tensors of its {architecture} head do not fit each other.")
    units = widths[-1][0][1]
    labels = {int(k): str(label) for k, label in (config.get("id2label") or {}).items()}
    classes = tuple(labels.get(k, f"LABEL_{k}") for k in range(units))
    if (labels and set(labels) != set(range(units))) or len(set(classes)) < units:
        raise UserError(
            f"--backbone={where}: its head has {units} outputs and id2label in config.json does not name each one once."
        )
    stated = _PROBLEMS.get(config.get("problem_type") or "")
    problem = stated or ("regression" if units == 1 and endpoint == "pooled" else "single")
    return CheckpointHead(layers=layers, endpoint=endpoint, classes=classes, problem=problem)


def _layer(
    name: str, activation: str, config: Mapping[str, Any], tensors: "TensorFolder", where: str
) -> tuple["np.ndarray", "np.ndarray", str]:
    if activation == "pooler_hidden_act":
        activation = config.get(activation) or "gelu"
    if activation not in ACTIVATIONS:
        raise UserError(f"--backbone={where}: the activation of its head is {activation}, which tfpt does not know.")
    try:
        kernel, bias = tensors.get_tensor(f"{name}.weight"), tensors.get_tensor(f"{name}.bias")
    except KeyError as error:
        raise UserError(
            f"--backbone={where}: the head of its checkpoint lacks the tensor {error.args[0]}; fetch it again."
        ) from error
    return kernel.T.astype("float32"), bias.astype("float32"), ACTIVATIONS[activation]

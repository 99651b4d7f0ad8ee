"""Which of several classes a text, or a pair of texts, belongs to: a linear layer on the trunk's pooled output."""

from typing import Any

from tfpt.tasks import State, Tensors
from tfpt.tasks._classification import Classification


class TextClassification(Classification):
    """Single-label classification of texts or pairs of texts."""

    modalities = ("text",)

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Takes the tokens as input and the label, where there is one, as target."""
        made = {"inputs": features["text"], "weight": features.get("weight")}
        if "label" in features:
            made["targets"] = features["label"]
        return made

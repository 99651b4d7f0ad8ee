"""Which of several classes a picture shows: a linear layer on the trunk's pooled output."""

from typing import Any

from tfpt.tasks import State, Tensors
from tfpt.tasks._classification import Classification


class ImageClassification(Classification):
    """Single-label image classification."""

    modalities = ("image",)
    default_augment = "random_crop(pad=0.1)|flip"

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Takes the picture as input and the label, where there is one, as target."""
        made = {"inputs": features["image"], "weight": features.get("weight")}
        if "label" in features:
            made["targets"] = features["label"]
        return made

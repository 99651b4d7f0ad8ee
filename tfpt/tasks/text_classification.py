"""Which class or classes a text, or a pair of texts, belongs to, or which numbers: a linear layer on the pooled output."""

import dataclasses

from tfpt.config import setting
from tfpt.tasks import Primary
from tfpt.tasks._classes import ClassesConfig
from tfpt.tasks._labelled import KINDS, Labelled


class TextClassification(Labelled):
    """One of several classes for each text or pair of texts, any number of them, or numbers."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ClassesConfig):
        """Flags of the group `task`."""

        labels: str = setting(
            "auto",
            "What labels are. single: one class an example; multi: any number of classes; values: numbers; auto: what the data has.",
            choices=("auto", "single", "multi", "values"),
        )
        loss: str = setting(
            "auto",
            "What training makes small. For classes: cross_entropy (auto), or focal: examples that are already answered well count "
            "less. For numbers: mse (auto), mae or huber.",
            choices=("auto", "cross_entropy", "focal", "mse", "mae", "huber"),
        )

    primary = Primary("accuracy")
    modalities = ("text",)
    kinds = ("single", "multi", "values")
    proportions = tuple(name for kind in kinds for name in KINDS[kind].proportions)

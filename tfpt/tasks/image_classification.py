"""Which class, or which classes, a picture shows: a linear layer on the trunk's pooled output."""

import dataclasses

from tfpt.tasks import Primary
from tfpt.tasks._classes import ClassesConfig
from tfpt.tasks._labelled import KINDS, Labelled


class ImageClassification(Labelled):
    """One of several classes for each picture, or any number of them."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ClassesConfig):
        """Flags of the group `task`."""

    primary = Primary("accuracy")
    modalities = ("image",)
    kinds = ("single", "multi")
    proportions = tuple(name for kind in kinds for name in KINDS[kind].proportions)
    default_augment = "random_crop(pad=0.1)|flip"

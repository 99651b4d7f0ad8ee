"""Which number, or numbers, belong to a picture: a linear layer on the trunk's pooled output."""

import dataclasses

from tfpt.config import setting
from tfpt.tasks import Primary
from tfpt.tasks._labelled import HeadConfig, Labelled


class ImageRegression(Labelled):
    """One or several numbers for each picture."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(HeadConfig):
        """Flags of the group `task`."""

        loss: str = setting(
            "mse",
            "What training makes small: squared errors, absolute ones, or huber: squared up to one standard deviation.",
            choices=("mse", "mae", "huber"),
        )

    primary = Primary("r2")
    modalities = ("image",)
    kinds = ("values",)
    # A crop or a flip may change the number: an angle, a place, a count.
    default_augment = "none"

"""A component outside tfpt, for the tests of flags."""

import dataclasses

from tfpt.config import setting


class ToyTrunk:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        weights: str = setting("imagenet", "Weights.")
        width: int = setting(8, "Width.")

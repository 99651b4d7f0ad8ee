"""A component outside tfpt, for the tests of flags."""

import dataclasses
from typing import Literal

from tfpt.config import setting


class ToyData:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        text: str = setting("", "A text.")
        words: tuple[str, ...] = setting((), "Words.")
        rates: tuple[float, ...] = setting((0.5,), "Rates.")
        size: int | Literal["auto"] = setting("auto", "A size.")
        limit: int | None = setting(None, "A limit.")
        rate: float = setting(0.1, "A rate.")
        mode: Literal["fast", "slow"] = setting("fast", "A mode.")
        shuffle: bool = setting(True, "A switch.")

"""A component outside tfpt, for the tests of flags."""

import dataclasses

from tfpt.config import check, setting


class ToyTask:
    """A toy."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        dropout: float = setting(0.0, "Share.")

        def __post_init__(self):
            check(0 <= self.dropout < 1, f"dropout: {self.dropout} is not at least 0 and below 1")

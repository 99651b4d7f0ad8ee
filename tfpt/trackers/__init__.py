"""Where the course of a run can be followed, one file each. This file holds the signature every tracker has."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

Row = Mapping[str, Any]
"""A row of metrics.jsonl: `split`, `total_steps`, and numbers by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Followed:
    """The run that is followed.

    Attributes:
        folder: its run folder, in which the tracker may have a folder of its own.
        name: what people call it.
        settings: every flag as text.
        identifier: what `start` returned when this run was followed first; empty the first time.
        offline: whether the network must not be used.
    """

    folder: Path
    name: str
    settings: Mapping[str, str]
    identifier: str = ""
    offline: bool = False


class Tracker:
    """Shows the rows of a run somewhere.

    A run may be killed and go on: `start` is then called again, in another process, with the rows that the run knows. What
    was told after these is computed and told again, so a tracker leaves out what it has.
    """

    packages: ClassVar[Sequence[str]] = ()
    """What must be installed."""
    extra: ClassVar[str] = ""
    """The extra of tfpt that installs it."""
    remote: ClassVar[bool] = False
    """Whether it may wait for a network; it then has a thread of its own, which training does not wait for."""

    def __init__(self, argument: str = "") -> None:
        self.argument = argument

    def start(self, run: Followed, history: Sequence[Row]) -> str:
        """Begins to follow a run, or goes on; returns an identifier that is given again when the run goes on.

        Args:
            run: the run.
            history: its rows until now, oldest first; those that were not told yet are told now.
        """
        raise NotImplementedError

    def add(self, row: Row) -> None:
        """Tells a row."""
        raise NotImplementedError

    def finish(self, state: str, results: Mapping[str, float]) -> None:
        """Ends following.

        Args:
            state: `finished`, `interrupted` or `failed`; after the last two the run may go on.
            results: what was measured at the end, by name (`test/accuracy`).
        """
        raise NotImplementedError


def numbers(row: Row) -> dict[str, float]:
    """Returns the numbers of a row by the name that every tracker shows them under: `train/loss`."""
    found = {name: value for name, value in row.items() if isinstance(value, float) and math.isfinite(value)}
    return {f"{row['split']}/{name}": value for name, value in found.items()}

"""The run folder as a process sees it that is not the first of several: it reads, and leaves no trace."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfpt.config import Experiment
from tfpt.training.run_folder import RunFolder


class Follower(RunFolder):
    """A run folder that another process writes."""

    writes = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Leaves the lock to the process that writes."""
        yield

    def write_experiment(self, experiment: Experiment) -> None:
        """Writes nothing."""

    def write_json(self, name: str, values: Any) -> None:
        """Writes nothing."""

    def begin_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes nothing."""

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Tells nobody."""

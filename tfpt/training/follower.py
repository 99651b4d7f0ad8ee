"""The run folder as a process sees it that is not the first of several: it reads, and leaves no trace."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.training.run_folder import RunFolder


class Silent(Console):
    """Says nothing and keeps no log: the first process says it."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def set_log(self, path: Path) -> None:
        """Leaves the log to the process that writes."""

    def warn(self, text: str) -> None:
        """Says nothing."""


class Follower(RunFolder):
    """A run folder that another process writes."""

    writes = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Leaves the lock to the process that writes."""
        yield

    def is_finished(self) -> bool:
        """Tells whether the process that writes came to the end of the run."""
        if self.remote:
            self.remote.pull()
        return super().is_finished()

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

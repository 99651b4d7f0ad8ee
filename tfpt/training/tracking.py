"""Tells trackers what happens in a run. What goes wrong there is said once, and never stops training."""

import contextlib
import dataclasses
import importlib.util
import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt import record, registry
from tfpt.atomic import atomic_text
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.trackers import Followed, Row, Tracker

FILE = "trackers.json"
"""In the run folder: tracker -> the identifier that it goes on with."""
SECONDS_AT_THE_END, SECONDS_WHEN_STOPPED = 30.0, 5.0
"""How long a run waits for what is still on its way; after SIGTERM there is little time."""


class Tracking:
    """The trackers of one run.

    Args:
        experiment: its settings; its output paths are filled in.
        folder: the run folder.
        console: says what went wrong.
        offline: whether the network must not be used.

    Raises:
        UserError: a tracker does not exist, or its package is not installed.
    """

    def __init__(self, experiment: Experiment, folder: Path, *, console: Console, offline: bool = False) -> None:
        self._folder = folder
        self._console = console
        self._rows: list[Row] = []
        self._started = False
        self._lock = threading.Lock()
        known = _read(folder / FILE)
        settings = dict(record.to_rows(experiment))
        name = experiment.output.name
        if folder.name.startswith(("seed-", "fold-")):
            name = f"{name} {folder.name}"
        self._lines = [
            _Line(
                _make(text),
                text,
                Followed(folder=folder, name=name, settings=settings, identifier=known.get(text, ""), offline=offline),
                self._remember,
            )
            for text in experiment.output.trackers
        ]

    def start(self, history: Sequence[Row]) -> None:
        """Begins with the rows that the run knows: none, or those of the checkpoint it goes on from."""
        self._rows, self._started = list(history), True
        for line in self._lines:
            line.start(list(history))
        self._say()

    def add(self, row: Row) -> None:
        """Tells a row."""
        self._rows.append(row)
        for line in self._lines:
            line.do(lambda tracker: tracker.add(row))
        self._say()

    def finish(self, state: str, metrics: Mapping[str, Any], history: Sequence[Row]) -> None:
        """Ends following.

        Args:
            state: `finished`, `interrupted` or `failed`.
            metrics: what metrics.json holds.
            history: all rows, for a run that was trained before it was started.
        """
        if not self._started and history:
            self.start(history)
        if not self._started:
            return
        results = {
            f"{split}/{name}": float(found["value"])
            for split in ("validation", "test")
            for name, found in (metrics.get(split) or {}).items()
            if found["value"] is not None
        }
        for line in self._lines:
            if line.problem:  # perhaps it is back; what it has missed is in the history
                line.start(self._rows)
            line.do(lambda tracker: tracker.finish(state, results))
        for line in self._lines:
            line.wait(SECONDS_AT_THE_END if state == "finished" else SECONDS_WHEN_STOPPED)
        self._say()
        self._started = False

    def _say(self) -> None:
        for line in self._lines:
            if line.problem and not line.said:
                line.said = True
                self._console.warn(f"--output.trackers={line.text}: {line.problem}; training goes on without it.")

    def _remember(self, text: str, identifier: str) -> None:
        """Writes down what a tracker goes on with; called by its thread."""
        with self._lock, contextlib.suppress(UserError), atomic_text(self._folder / FILE) as file:
            json.dump({**_read(self._folder / FILE), text: identifier}, file, indent=1)


class _Line:
    """The line to one tracker; a remote one's has a thread, so that nobody waits."""

    def __init__(self, tracker: Tracker, text: str, run: Followed, remember: Callable[[str, str], None]) -> None:
        self.tracker, self.text = tracker, text
        self.problem, self.said = "", False
        self._run, self._remember = run, remember
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, history: Sequence[Row]) -> None:
        def begin(tracker: Tracker) -> None:
            self.problem = ""
            identifier = tracker.start(self._run, history)
            if identifier and identifier != self._run.identifier:
                self._run = dataclasses.replace(self._run, identifier=identifier)
                self._remember(self.text, identifier)

        self.do(begin, first=True)

    def do(self, call: Callable[[Tracker], None], *, first: bool = False) -> None:
        def guarded() -> None:
            if self.problem and not first:
                return
            try:
                call(self.tracker)
            except Exception as error:
                self.problem = (f"{type(error).__name__}: {error}".splitlines() or [""])[0].rstrip(".")

        if not self.tracker.remote:
            guarded()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tracker {self.text}", daemon=True)
            self._thread.start()
        self._waiting.put(guarded)

    def wait(self, seconds: float) -> None:
        """Waits until everything was told, or until the time is over."""
        if self._thread is None:
            return
        done = threading.Event()
        self._waiting.put(done.set)
        if not done.wait(seconds):
            self.problem = self.problem or f"not everything had arrived after {seconds:g} s"

    def _work(self) -> None:
        while True:
            self._waiting.get()()


def _make(text: str) -> Tracker:
    name, argument = registry.split_reference(text)
    try:
        cls = registry.find("tracker", name)
    except UserError as error:
        raise UserError(str(error).replace("--tracker=", "--output.trackers=", 1)) from error
    for package in cls.packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f'--output.trackers={text} needs {package}: pip install "tfpt[{cls.extra}]".')
    made: Tracker = cls(argument)
    return made


def _read(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}

"""What a person sees while a program works: sentences, tables, progress; and the same in log.txt.

In a terminal progress is one live line; in a notebook one line that is overwritten; elsewhere (a file, a pipe, a batch job)
plain lines, at most one every ten seconds and the last.
"""

import collections
import contextlib
import datetime
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.1
_KEPT_BEFORE_LOG = 1000


class Console:
    """Says things on a stream and keeps them in a log."""

    def __init__(
        self,
        log: Path | None = None,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes a console.

        Args:
            log: the file that everything is appended to with time stamps; `set_log` can name it later.
            quiet: show nothing but warnings.
            stream: where to; None: whatever `sys.stdout` is at the time.
            clock: seconds, from any start.
        """
        self.quiet = quiet
        self.log: Path | None = None
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._waiting: collections.deque[str] = collections.deque(maxlen=_KEPT_BEFORE_LOG)
        self._line: _Line | None = None
        if log is not None:
            self.set_log(log)

    @property
    def stream(self) -> TextIO:
        """Where it is said."""
        return self._stream if self._stream is not None else sys.stdout

    def set_log(self, path: Path) -> None:
        """Names the log file; what was said before is written first."""
        self.log = path
        waiting, self._waiting = self._waiting, collections.deque(maxlen=_KEPT_BEFORE_LOG)
        self._append("".join(waiting))

    def seconds(self) -> float:
        """Returns the seconds since it was made, which a program does first."""
        return self._clock() - self._started

    def say(self, text: str) -> None:
        """Says one or several lines."""
        self._record(text)
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Says something that the user should look at; shown even when quiet."""
        text = f"warning: {text}"
        self._record(text)
        self._print(text)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Says an aligned table; columns of numbers are set to the right."""
        self.say(table_text(headers, rows))

    @contextlib.contextmanager
    def track(self, description: str, total: int, unit: str) -> Iterator["Track"]:
        """Shows how far something is: `with console.track("Reading", 100, "files") as track: track.advance()`."""
        with self._live() as line:
            track = Track(line, self._clock, description, total, unit)
            yield track
            self._record(line.last)

    @contextlib.contextmanager
    def training(self, stage: str, epochs: int, steps: int) -> Iterator["Training"]:
        """Shows a stage of training.

        Args:
            stage: its name.
            epochs: how many it has.
            steps: updates in the whole stage.
        """
        with self._live(logged=True) as line:
            yield Training(line, self._clock, stage, epochs, steps)
            if line.last != line.logged:
                self._record(line.last)

    @contextlib.contextmanager
    def _live(self, logged: bool = False) -> Iterator["_Line"]:
        if self._line is not None:
            raise RuntimeError("one live line at a time")
        self._line = _Line(self, logged)
        try:
            yield self._line
        finally:
            line, self._line = self._line, None
            line.close()

    def _print(self, text: str) -> None:
        if self._line is not None:
            self._line.print_above(text)
        else:
            print(text, file=self.stream, flush=True)

    def _record(self, text: str) -> None:
        if not text:
            return
        stamp = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        entry = "".join(f"{stamp} {line}\n" for line in text.split("\n"))
        if self.log is None:
            self._waiting.append(entry)
        else:
            self._append(entry)

    def _append(self, text: str) -> None:
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)


class Track:
    """How far a counted job is."""

    def __init__(self, line: "_Line", clock: Callable[[], float], description: str, total: int, unit: str) -> None:
        self._line, self._clock, self._start = line, clock, clock()
        self._description, self._total, self._unit = description, total, unit
        self._done = 0
        self.advance(0)

    def advance(self, n: int = 1) -> None:
        """Counts n more."""
        self._done += n
        seconds = self._clock() - self._start
        parts = [self._description, f"{self._done:,}/{self._total:,} {self._unit}"]
        if 0 < self._done < self._total and seconds > 1:
            parts.append(f"{_duration(seconds * (self._total - self._done) / self._done)} left")
        self._line.show("  ".join(parts))


class Training:
    """How far a stage of training is."""

    def __init__(self, line: "_Line", clock: Callable[[], float], stage: str, epochs: int, steps: int) -> None:
        self._line, self._clock = line, clock
        self._stage, self._epochs, self._steps = stage, epochs, steps
        self._first: tuple[int, float] | None = None

    def update(
        self,
        *,
        epoch: float,
        step: int,
        loss: float,
        metric: tuple[str, float] | None = None,
        examples_per_second: float = 0.0,
        time: str = "",
    ) -> None:
        """Shows the state after an update.

        Args:
            epoch: epochs done, the one that runs by its fraction.
            step: updates done in this stage, those of an earlier start included.
            loss: of training, the latest.
            metric: name and value of the primary metric on validation, once there is one.
            examples_per_second: training examples; 0: not known yet.
            time: where it goes, in words.
        """
        now = self._clock()
        if self._first is None:
            self._first = (step, now)
        parts = [self._stage, f"epoch {epoch:.1f}/{self._epochs}", f"step {step:,}/{self._steps:,}", f"loss {loss:.4f}"]
        if metric is not None:
            parts.append(f"{metric[0]} {metric[1]:.4f}")
        if examples_per_second > 0:
            parts.append(
                f"{examples_per_second:,.0f} examples/s"
                if examples_per_second >= 10
                else f"{examples_per_second:.1f} examples/s"
            )
        parts += [time] if time else []
        first, start = self._first
        if first < step < self._steps:
            parts.append(f"{_duration((now - start) * (self._steps - step) / (step - first))} left")
        self._line.show("  ".join(parts))


class _Line:
    """One line of progress, in whichever way the stream can show it."""

    def __init__(self, console: Console, logged: bool) -> None:
        self.last = ""
        self.logged = ""
        self._console, self._logs = console, logged
        self._stream = console.stream
        self._shown_at = float("-inf")
        self._logged_at = float("-inf")
        self._shown = ""
        self._live: Any = None
        self._overwrites = False
        if console.quiet:
            return
        if self._stream.isatty():
            from rich.console import Console as RichConsole
            from rich.live import Live

            self._live = Live(console=RichConsole(file=self._stream), auto_refresh=False, transient=True)
            self._live.start()
        else:
            self._overwrites = "ipykernel" in sys.modules and self._stream is sys.stdout

    def show(self, text: str) -> None:
        now = self._console._clock()
        self.last = text
        if self._logs and now - self._logged_at >= _SECONDS_BETWEEN_LINES:
            self._console._record(text)
            self.logged, self._logged_at = text, now
        pause = _SECONDS_BETWEEN_FRAMES if self._live or self._overwrites else _SECONDS_BETWEEN_LINES
        if not self._console.quiet and now - self._shown_at >= pause:
            self._shown_at = now
            self._draw(text)

    def print_above(self, text: str) -> None:
        if self._live:
            from rich.text import Text

            self._live.console.print(Text(text), soft_wrap=True)
            return
        if self._overwrites and self._shown:
            print("\r" + " " * len(self._shown) + "\r", end="", file=self._stream)
            self._shown = ""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._live:
            self._live.stop()
        if self._console.quiet or not self.last:
            return
        if self._overwrites:
            self._draw(self.last)
            print(file=self._stream, flush=True)
        elif self._live or self._shown != self.last:
            print(self.last, file=self._stream, flush=True)

    def _draw(self, text: str) -> None:
        if self._live:
            from rich.text import Text

            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif self._overwrites:
            print("\r" + text.ljust(len(self._shown)), end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)
        self._shown = text


def table_text(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns an aligned table as plain text; columns of numbers are set to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(headers))]
    widths = [max(map(_width, column)) for column in zip(headers, *cells, strict=True)]
    lines = [
        "  ".join(
            " " * (width - _width(cell)) + cell if on_right else cell + " " * (width - _width(cell))
            for cell, width, on_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (list(headers), ["-" * width for width in widths], *cells)
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else " " for character in text)


def _width(text: str) -> int:
    """Returns the columns a text takes: combining marks none, East Asian wide characters two."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

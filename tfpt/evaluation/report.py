"""The report of a run: one HTML file that needs nothing else, no network and no script.

Everything that comes from the user (class names, file names, flags) is escaped. A section whose data is missing is left
out, so tasks without classes have a report, too.
"""

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfpt.atomic import atomic_text
from tfpt.evaluation import figures
from tfpt.evaluation.cautions import cautions, headline
from tfpt.evaluation.figures import Figure
from tfpt.evaluation.marks import Piece
from tfpt.evaluation.printable import printable
from tfpt.evaluation.thumbnails import thumbnail
from tfpt.evaluation.wording import words

FURTHER = (
    "answerable",
    "unanswerable",
    "threshold",
    "temperature",
    "expected_calibration_error_before",
    "log_loss_before",
)
"""Numbers of metrics.json without an interval that are shown where there are such."""

MOST_ROWS = 40
"""With more classes than this the per-class table shows those with the lowest F1."""


@dataclass(frozen=True, kw_only=True)
class WrongExample:
    """An example that the model got wrong.

    Attributes:
        name: what the user calls it.
        label: the truth: a class, several, numbers, or an answer; empty where it is marked in the text.
        predicted: the answer.
        remark: the score of that answer, or how far off it is.
        image: the encoded picture; None where there is none to show.
        text: its text, or a question; empty where there is none to show.
        marked: texts with what is true or answered marked in them, each behind a word of its own.
    """

    name: str
    label: str
    predicted: str
    remark: str
    image: bytes | None = None
    text: str = ""
    marked: Sequence[tuple[str, Sequence[Piece]]] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report tells; whatever is empty is left out.

    Attributes:
        title: name of the experiment.
        summary: lines under the title by name (`task`, `data`, `backbone`, `model`), in order.
        metrics: as in metrics.json. `primary`: name of the metric in the headline; `higher_is_better` (True);
            `test` and `validation`: metric -> `{"value", "low", "high"}`, the ends of the interval None or missing where
            there is none; `baseline`: metric -> value of one answer to all, which `baseline_answer` says;
            `examples`: split -> count; `per_class`: rows of `metrics.classification.per_class` or
            `metrics.multi_label.per_class`; `counted`: what their `support` counts (`examples`); `confusion`: rows true,
            columns predicted; `classes`: names; `parity`: `serving.parity.Parity` as a mapping (`passed`, `reason`,
            `examples`, `max_difference`); the numbers of `FURTHER`.
        history: rows of metrics.jsonl, see `figures.curve`.
        figures: of the test examples' answers.
        wrong: the most wrong test examples, most wrong first.
        configuration: flag, value and whether it was changed from its default.
        environment: names and values, as from `environment.environment`.
        timings: seconds by stage, in order.
        peak_memory: bytes; 0 where it is not known.
        notes: sentences: ignored files, examples that could not be read, with their paths.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    figures: Sequence[Figure] = ()
    wrong: Sequence[WrongExample] = ()
    configuration: Sequence[tuple[str, str, bool]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    notes: Sequence[str] = ()

    @functools.cached_property
    def curves(self) -> list[Figure]:
        """Loss and primary metric over training."""
        names = dict.fromkeys(["loss", self.metrics.get("primary", "")])
        return [figure for figure in (figures.curve(self.history, name) for name in names) if figure]

    @functools.cached_property
    def confusion(self) -> Figure | None:
        """The confusion matrix, where there is one that can be read."""
        counts = self.metrics.get("confusion")
        return None if counts is None else figures.confusion(counts, self.metrics.get("classes", ()))

    def drawings(self) -> list[Figure]:
        """Returns every figure of the page."""
        return [*self.curves, *self.figures, *([self.confusion] if self.confusion else [])]


def write(report: Report, path: str | Path) -> None:
    """Writes the report as an HTML file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    page = render(report)
    with atomic_text(path) as file:
        file.write(page)


def render(report: Report) -> str:
    """Returns the report as HTML; equal reports give equal text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters |= {"number": _number, "duration": _duration, "words": words, "bytes": _bytes}
    metrics = {
        "baseline_answer": "one answer to all",
        "examples": {},
        "test": {},
        "validation": {},
        "baseline": {},
        "parity": {},
        "counted": "examples",
        **report.metrics,
    }
    classes = list(metrics.get("classes", ()))
    crowded = metrics.get("confusion") is not None and len(classes) > figures.MOST_CLASSES
    rows = list(metrics.get("per_class", ()))
    columns = [name for name in rows[0] if name not in ("class", "support")] if rows else []
    shown = rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: row["f1"])[:MOST_ROWS]
    return environment.get_template("report.html").render(
        report=report,
        metrics=metrics,
        headline=headline(metrics),
        warnings=cautions(metrics),
        names=list(dict.fromkeys([*metrics["test"], *metrics["validation"]])),
        curves=[Markup(figure.svg) for figure in report.curves],
        figures=[Markup(figure.svg) for figure in report.figures],
        per_class=shown,
        columns=columns,
        class_count=len(rows),
        confusion=Markup(report.confusion.svg) if report.confusion else "",
        confused=figures.most_confused(metrics["confusion"], classes) if crowded else [],
        wrong=[(example, _data_uri(example.image)) for example in report.wrong],
        further={name: metrics[name] for name in FURTHER if name in metrics},
        total_time=sum(report.timings.values()),
    )


def _data_uri(image: bytes | None) -> str:
    small = thumbnail(image) if image else None
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}" if small else ""


def _number(value: float | None, digits: int = 4) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.{digits - 1}g}"
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.{digits + 1}g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"

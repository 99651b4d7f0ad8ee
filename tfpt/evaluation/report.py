"""The report of a run: one HTML file that needs nothing else, no network and no script.

Everything that comes from the user (class names, file names, flags) is escaped. A section whose data is missing is left
out, so tasks without classes have a report, too.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfpt.atomic import atomic_text
from tfpt.evaluation import figures
from tfpt.evaluation.printable import printable
from tfpt.evaluation.thumbnails import thumbnail

FEW_EXAMPLES = 10
"""A class with fewer test examples than this is named in a warning."""

MOST_ROWS = 40
"""With more classes than this the per-class table shows those with the lowest F1."""


@dataclass(frozen=True, kw_only=True)
class WrongExample:
    """An example that the model got wrong.

    Attributes:
        name: what the user calls it.
        label: the truth: a class, several, or numbers.
        predicted: the answer.
        remark: the score of that answer, or how far off it is.
        image: the encoded picture; None where there is none to show.
        text: its text; empty where there is none to show.
    """

    name: str
    label: str
    predicted: str
    remark: str
    image: bytes | None = None
    text: str = ""


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
            `metrics.multi_label.per_class`; `confusion`: rows true,
            columns predicted; `classes`: names; `parity`: `serving.parity.Parity` as a mapping (`passed`, `reason`,
            `examples`, `max_difference`).
        history: rows of metrics.jsonl, see `figures.curve`.
        figures: of the test examples' answers, as SVG.
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
    figures: Sequence[str] = ()
    wrong: Sequence[WrongExample] = ()
    configuration: Sequence[tuple[str, str, bool]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    notes: Sequence[str] = ()


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
    environment.filters |= {"number": _number, "duration": _duration, "words": _words, "bytes": _bytes}
    metrics = {
        "baseline_answer": "one answer to all",
        "examples": {},
        "test": {},
        "validation": {},
        "baseline": {},
        "parity": {},
        **report.metrics,
    }
    classes = list(metrics.get("classes", ()))
    confusion = metrics.get("confusion") if len(classes) >= 2 else None
    crowded = len(classes) > figures.MOST_CLASSES
    rows = list(metrics.get("per_class", ()))
    columns = [name for name in rows[0] if name not in ("class", "support")] if rows else []
    shown = rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: row["f1"])[:MOST_ROWS]
    primary = metrics.get("primary", "")
    curves = [figures.curve(report.history, name) for name in dict.fromkeys(["loss", primary])]
    return environment.get_template("report.html").render(
        report=report,
        metrics=metrics,
        headline=_headline(metrics),
        warnings=_warnings(metrics),
        names=list(dict.fromkeys([*metrics["test"], *metrics["validation"]])),
        curves=[Markup(svg) for svg in curves if svg],
        figures=[Markup(svg) for svg in report.figures],
        per_class=shown,
        columns=columns,
        class_count=len(rows),
        confusion=Markup(figures.confusion(confusion, classes)) if confusion is not None and not crowded else "",
        confused=figures.most_confused(confusion, classes) if confusion is not None and crowded else [],
        wrong=[(example, _data_uri(example.image)) for example in report.wrong],
        total_time=sum(report.timings.values()),
    )


def _headline(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    primary = metrics.get("primary", "")
    for split in ("test", "validation"):
        if primary in metrics.get(split, {}):
            interval = {"low": None, "high": None, **metrics[split][primary]}
            return {"metric": primary, "split": split, "baseline": metrics.get("baseline", {}).get(primary), **interval}
    return None


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    found = []
    parity = metrics.get("parity")
    if parity and not parity.get("passed"):
        reason = f" ({parity['reason']})" if parity.get("reason") else ""
        found.append(f"The served model does not give the scores that were evaluated{reason}: do not use it.")
    headline = _headline(metrics)
    if headline and headline["baseline"] is not None and headline["low"] is not None:
        better = metrics.get("higher_is_better", True)
        clearly = headline["low"] > headline["baseline"] if better else headline["high"] < headline["baseline"]
        if not clearly:
            found.append(
                f"The interval of {_words(headline['metric'])} does not lie clear of the baseline: on these "
                "examples the model may be no better than always giving the same answer."
            )
    few = [row for row in metrics.get("per_class", ()) if row["support"] < FEW_EXAMPLES]
    if few:
        listed = ", ".join(f"{row['class']} ({row['support']})" for row in few[:8])
        more = f" and {len(few) - 8} more" if len(few) > 8 else ""
        found.append(
            f"Fewer than {FEW_EXAMPLES} test examples in {len(few)} of {len(metrics['per_class'])} classes, so their numbers are "
            f"rough: {listed}{more}."
        )
    return found


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


def _words(name: str) -> str:
    return " ".join(_AS_WRITTEN.get(word, word) for word in name.split("_"))


_AS_WRITTEN = {"f1": "F1", "roc": "ROC", "auc": "AUC", "r2": "R²", "mae": "MAE", "rmse": "RMSE"}

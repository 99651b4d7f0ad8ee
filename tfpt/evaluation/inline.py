"""A run as a notebook shows it: numbers with their intervals, curves, the confusion matrix."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tfpt.evaluation import figures
from tfpt.evaluation.cautions import cautions
from tfpt.evaluation.printable import printable

_NOT_METRICS = ("epoch", "loss", "learning_rate", "seconds", "evaluation_seconds", "examples_per_second")
_CELL = "text-align:left;padding:.15rem 1.2rem .15rem 0;"


def page(title: str, metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, note: str = "") -> str:
    """Returns HTML that stands in a page, everything of the user's escaped.

    Args:
        title: name of the run.
        metrics: what metrics.json holds; empty for a run that was not measured yet.
        history: the rows of metrics.jsonl.
        note: a sentence under the title.
    """
    primary = metrics.get("primary") or _progress_metric(history)
    drawn = [figures.curve(history, name) for name in dict.fromkeys(("loss", primary))]
    classes = list(metrics.get("classes", ()))
    if metrics.get("confusion") is not None and len(classes) >= 2:
        drawn.append(figures.confusion(metrics["confusion"], classes))
    pieces = [f"<b>{_shown(title)}</b>", f"<div>{_shown(note)}</div>" if note else "", _table(metrics)]
    pieces += [f'<div style="color:#8a5300">{_shown(sentence)}</div>' for sentence in cautions(metrics)]
    shown = "".join(f'<div style="max-width:34rem">{figure.svg}</div>' for figure in drawn if figure)
    pieces.append(f'<div style="display:flex;flex-wrap:wrap;gap:1.5rem;align-items:flex-start">{shown}</div>')
    return f'<div style="background:#fff;color:#1f2430;padding:.6rem">{"".join(pieces)}</div>'


def _table(metrics: Mapping[str, Any]) -> str:
    splits = [split for split in ("validation", "test") if metrics.get(split)]
    if not splits:
        return ""
    names = list(dict.fromkeys(name for split in splits for name in metrics[split]))
    rows = ["".join(f'<th style="{_CELL}">{_shown(text)}</th>' for text in ("", *splits))]
    for name in names:
        cells = [name.replace("_", " "), *(_value(metrics[split].get(name)) for split in splits)]
        rows.append("".join(f'<td style="{_CELL}">{_shown(text)}</td>' for text in cells))
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _value(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("value") is None:
        return ""
    ends = "" if found.get("low") is None else f" ({found['low']:.4f} to {found['high']:.4f})"
    return f"{found['value']:.4f}{ends}"


def _progress_metric(history: Sequence[Mapping[str, Any]]) -> str:
    """Returns the first metric that validation was measured by."""
    measured = (row for row in history if row.get("split") == "validation")
    names = (n for row in measured for n, v in row.items() if isinstance(v, float) and n not in _NOT_METRICS)
    return next(names, "loss")


def _shown(text: str) -> str:
    return escape(printable(text))

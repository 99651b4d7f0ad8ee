"""A table of experiments as text, CSV, Markdown or LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tfpt.compare_runs import Row, Table, Value
from tfpt.console import table_text

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}"}


def text(table: Table, *, names: bool, digits: int) -> str:
    """Returns an aligned table for a terminal."""
    headers = _headers(table, names)
    rows = [
        [*_labels(row, table, names), *(_plain(row.values.get(m), digits) for m in table.metrics)] for row in table.rows
    ]
    return table_text([*headers, *table.metrics], rows)


def comma_separated(table: Table, *, names: bool, digits: int) -> str:
    """Returns CSV with every digit: three columns a metric, and whether the row has several seeds."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = [column for metric in table.metrics for column in (metric, f"{metric}_low", f"{metric}_high")]
    writer.writerow(["run", *table.flags, "seeds", *ends])
    for row in table.rows:
        values = [row.values.get(metric, Value(float("nan"))) for metric in table.metrics]
        numbers = [n for v in values for n in (v.value if v.value == v.value else "", v.low, v.high)]
        writer.writerow([row.name, *row.flags.values(), len(row.runs), *("" if n is None else n for n in numbers)])
    return file.getvalue().rstrip("\n")


def markdown(table: Table, *, names: bool, digits: int) -> str:
    """Returns a Markdown table; the best value by the primary metric is bold."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    headers = _headers(table, names)
    lines = [line([*headers, *table.metrics]), "|" + "---|" * len(headers) + "---:|" * len(table.metrics)]
    for row in table.rows:
        values = []
        for metric in table.metrics:
            shown = _plain(row.values.get(metric), digits)
            values.append(f"**{shown}**" if row in table.best(metric) else shown)
        lines.append(line([*_labels(row, table, names), *values]))
    return "\n".join(lines)


def latex(table: Table, *, names: bool, digits: int) -> str:
    """Returns a LaTeX tabular with the rules of booktabs; the best value by the primary metric is bold."""
    headers = _headers(table, names)
    aligned = "l" * len(headers) + "r" * len(table.metrics)
    titles = [
        *(_escaped(header) for header in headers),
        *(_escaped(metric.replace("_", " ")) for metric in table.metrics),
    ]
    lines = [r"% needs \usepackage{booktabs}"]
    lines += [f"% {note}" for note in table.notes]
    lines += [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", " & ".join(titles) + r" \\", r"\midrule"]
    for row in table.rows:
        values = []
        for metric in table.metrics:
            value = row.values.get(metric)
            number = "" if value is None else f"{value.value:.{digits}f}"
            number = rf"\textbf{{{number}}}" if row in table.best(metric) else number
            ends = "" if value is None or value.low is None else rf" {{\footnotesize [{_ends(value, digits)}]}}"
            values.append(number + ends)
        lines.append(" & ".join([*(_escaped(label) for label in _labels(row, table, names)), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


FORMATS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {"text": text, "csv": comma_separated, "markdown": markdown, "latex": latex}
)
"""Name -> what writes a table so: `write(table, names=whether folders are named, digits=behind the point)`."""


def _headers(table: Table, names: bool) -> list[str]:
    return [*(["run"] if names or not table.flags else []), *table.flags, *(["seeds"] if table.seeds else [])]


def _labels(row: Row, table: Table, names: bool) -> list[str]:
    seeds = [str(len(row.runs))] if table.seeds else []
    return [*([row.name] if names or not table.flags else []), *row.flags.values(), *seeds]


def _plain(value: Value | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value.value:.{digits}f}" + ("" if value.low is None else f" [{_ends(value, digits)}]")


def _ends(value: Value, digits: int) -> str:
    return f"{value.low:.{digits}f}, {value.high:.{digits}f}"


def _escaped(words: str) -> str:
    return "".join(_LATEX.get(character, character) for character in words)

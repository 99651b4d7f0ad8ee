"""Figures of the report: SVG text that stands inside a page or a file, and the numbers that it shows.

matplotlib draws them without pyplot, from its own defaults whatever the user's matplotlibrc says. Text stays text: the
browser draws it in the page's font, so scripts and emoji that matplotlib's fonts lack are no trouble. Equal data gives
equal bytes. Every string of the user is shown as it is: `$` starts no formula, markup is escaped.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfpt.evaluation.printable import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30
"""With more classes than this a confusion matrix cannot be read, and `most_confused` says more."""

# Blue and vermilion of Okabe and Ito's palette for all kinds of colour vision (jfly.uni-koeln.de/color, 2008).
TRAIN, VALIDATION = "#0072B2", "#D55E00"
INK, MUTED, RULE = "#1f2430", "#5c6370", "#d9dce1"

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "text.parse_math": False,
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its numbers.

    Attributes:
        name: of its files.
        svg: the drawing, an element of a page.
        header: names of the columns.
        rows: what is drawn.
    """

    name: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def curve(history: Iterable[Mapping[str, Any]], quantity: str) -> Figure | None:
    """Draws one quantity over training, train and validation, with the stages marked.

    Args:
        history: rows of metrics.jsonl: `stage`, `total_steps` (updates since the start of the run; `step` where a row
            has none), `split` (`train` or `validation`) and quantities by name.
        quantity: the one to draw, `loss` or a metric.

    Returns:
        None when no row has a finite value of it.
    """
    from matplotlib.ticker import MaxNLocator

    rows = [{"update": row.get("total_steps", row.get("step")), **row} for row in history]
    rows = [row for row in rows if _finite(row.get(quantity)) and _finite(row["update"])]
    if not rows:
        return None

    def draw(axes: "Axes") -> None:
        drawn = [
            (split, [(row["update"], row[quantity]) for row in rows if row.get("split") == split], colour, line)
            for split, colour, line in (("train", TRAIN, (0, (4, 1.5))), ("validation", VALIDATION, "-"))
        ]
        for split, points, colour, line in drawn:
            if points:
                steps, values = zip(*sorted(points), strict=True)
                axes.plot(
                    steps, values, color=colour, linestyle=line, linewidth=1.8, marker="o", markersize=3, label=split
                )
        axes.margins(x=0.03, y=0.08)
        axes.set_xlabel("update")
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderpad=0.1)
        axes.set_title(printable(quantity.replace("_", " ")), loc="left", fontsize=11, fontweight="bold", pad=9)
        _mark_stages(axes, rows)

    return Figure(
        name=quantity,
        svg=to_svg(draw, size=(4.6, 2.9), label=f"{quantity} over training", salt=f"curve {quantity}"),
        header=("stage", "update", "split", quantity),
        rows=tuple((row.get("stage", ""), row["update"], row.get("split", ""), row[quantity]) for row in rows),
    )


def confusion(counts: NDArray[Any], classes: Sequence[str]) -> Figure | None:
    """Draws a confusion matrix: rows are true classes, the numbers are examples.

    The shade is the square root of the share of the row, so that rare mistakes are seen.

    Args:
        counts: `[classes, classes]`, rows true, columns predicted.
        classes: their names; from 2 to `MOST_CLASSES`.

    Returns:
        None for fewer or more classes.
    """
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(counts)
    count = len(classes)
    if not 2 <= count <= MOST_CLASSES:
        return None
    shades = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    names = [shortened(printable(name), 18) for name in classes]
    longest = max(map(len, names))
    cell = 0.7 if count <= 4 else 0.42 if count <= 12 else 0.34
    margin = 0.35 + 0.075 * longest
    colours = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#cfe3f1", "#5aa2cf", "#0b4f84"])
    upright = longest * 0.075 > cell * 0.9

    def draw(axes: "Axes") -> None:
        axes.pcolormesh(shades, cmap=colours, vmin=0, vmax=1, edgecolors="#eceef1", linewidth=0.8)
        for (row, column), examples in np.ndenumerate(counts):
            if examples:
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    str(int(examples)),
                    ha="center",
                    va="center",
                    color="#ffffff" if shades[row, column] > 0.7 else INK,
                    fontsize=9 if count <= 12 and counts.max() < 10_000 else 7,
                )
        places = np.arange(count) + 0.5
        axes.set_xticks(places, names, rotation=90 if upright else 0)
        axes.set_yticks(places, names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true class")
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.invert_yaxis()
        axes.set_aspect("equal")

    side = count * cell
    size = (side + margin + 0.3, side + 0.5 + (margin if upright else 0.3))
    return Figure(
        name="confusion",
        svg=to_svg(draw, size=size, label=f"confusion matrix of {count} classes", salt="confusion"),
        header=("true class", *classes),
        rows=tuple((name, *map(int, row)) for name, row in zip(classes, counts, strict=True)),
    )


def most_confused(
    counts: NDArray[Any], classes: Sequence[str], *, count: int = 15
) -> list[tuple[str, str, int, float]]:
    """Returns the most frequent mistakes as (true class, predicted class, examples, share of the true class).

    Args:
        counts: `[classes, classes]`, rows true, columns predicted.
        classes: their names.
        count: how many at most.
    """
    wrong = np.array(counts)
    support = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        (classes[i], classes[j], int(wrong[i, j]), float(wrong[i, j] / support[i])) for i, j in pairs if wrong[i, j]
    ]


def _mark_stages(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    steps: dict[str, list[float]] = {}
    for row in rows:
        steps.setdefault(str(row.get("stage", "")), []).append(row["update"])
    if len(steps) < 2:
        return
    ends = axes.get_xaxis_transform()
    bounds = [axes.get_xlim()[0], *[max(values) for values in steps.values()][:-1], axes.get_xlim()[1]]
    for bound in bounds[1:-1]:
        axes.axvline(bound, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    for stage, low, high in zip(steps, bounds, bounds[1:], strict=False):
        axes.text(
            (low + high) / 2,
            0.995,
            printable(stage.replace("_", " ")),
            transform=ends,
            ha="center",
            va="top",
            color=MUTED,
            fontsize=9,
        )


def to_svg(draw: Callable[["Axes"], None], *, size: tuple[float, float], label: str, salt: str) -> str:
    """Returns one drawing as an SVG element of a page.

    Args:
        draw: draws on the axes.
        size: width and height, in inches.
        label: what it shows, for those who cannot see it.
        salt: makes the ids inside differ from those of other figures of the page.
    """
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.StringIO()
    # The context gives the caller's own settings back.
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": salt}]), warnings.catch_warnings():
        # matplotlib only measures the text; that its font lacks a glyph does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(file.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """Makes a stand-alone SVG file an element of a page: no prologue, no fixed size, ids only where they are used."""
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box
    width, height = box[1].split()[2:]
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}" '
        f'width="{float(width) * 96 / 72:.0f}" height="{float(height) * 96 / 72:.0f}" '
        f'role="img" aria-label="{escape(printable(label))}">'
    )
    svg = start + svg[svg.index(">") + 1 :]
    svg = svg.replace("*{stroke-", "svg *{stroke-", 1)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r'<g id="([^"]+)"', lambda g: g[0] if g[1] in used else "<g", svg)
    return svg.strip()


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))

"""The figure of a learning-rate range test."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfpt.evaluation.figures import RULE, TRAIN, VALIDATION, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.0, 3.4)
_DOTS_PER_INCH = 160


def range_figure(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, *, chosen: float) -> tuple[str, bytes]:
    """Returns the figure as SVG text and as a PNG file.

    Args:
        rates: `[steps]`.
        losses: `[steps]`.
        smoothed: `[steps]`.
        chosen: the learning rate to mark.
    """
    draw = _drawing(rates, losses, smoothed, chosen)
    return to_svg(draw, size=SIZE, label="loss over learning rate", salt="range"), _png(draw)


def _drawing(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, chosen: float) -> Callable[["Axes"], None]:
    def draw(axes: "Axes") -> None:
        axes.plot(rates, losses, ".", color=TRAIN, alpha=0.4, markersize=4, label="batches")
        axes.plot(rates, smoothed, color=TRAIN, linewidth=1.8, label="smoothed")
        axes.axvline(
            chosen, color=VALIDATION, linewidth=1.4, linestyle=(0, (4, 1.5)), label=f"falls fastest: {chosen:.1e}"
        )
        axes.set_xscale("log")
        axes.set_ylim(smoothed.min() - 0.1 * np.ptp(smoothed), min(smoothed.max(), 2 * smoothed[0]) * 1.1)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(color=RULE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", frameon=False, fontsize=8)

    return draw


def _png(draw: Callable[["Axes"], None]) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(mpl.rcParamsDefault):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()

"""Figures of predicted numbers: predicted against true, and what is left over."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfpt.evaluation.figures import MUTED, RULE, TRAIN, Figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 1000
"""More points hide each other, and make the page heavy."""
MOST_NUMBERS = 6
"""Of several numbers an example, so many have figures."""


def draw(statistics: Mapping[str, NDArray[Any]]) -> list[Figure]:
    """Returns two figures for each predicted number; none for labels that are no numbers.

    Args:
        statistics: with `target` and `value`, `[examples, numbers]` each.
    """
    if not {"target", "value"} <= set(statistics):
        return []
    step = -(-len(statistics["target"]) // MOST_POINTS)
    target, value = (np.asarray(statistics[name], np.float64)[::step] for name in ("target", "value"))
    found = []
    for k in range(min(target.shape[1], MOST_NUMBERS)):
        which = f" {k + 1}" if target.shape[1] > 1 else ""
        true, predicted = target[:, k], value[:, k]
        found.append(
            _figure(f"predicted against true{which}", "true", true, predicted, _against(true, predicted, which))
        )
        left = predicted - true
        found.append(_figure(f"residuals{which}", "residual", left, predicted, _residuals(true, predicted, which)))
    return found


def _figure(name: str, column: str, values: NDArray[Any], predicted: NDArray[Any], svg: str) -> Figure:
    rows = tuple(zip(values.tolist(), predicted.tolist(), strict=True))
    return Figure(name=name.replace(" ", "_"), svg=svg, header=(column, "predicted"), rows=rows)


def _against(target: NDArray[Any], value: NDArray[Any], which: str) -> str:
    def draw(axes: "Axes") -> None:
        ends = [min(target.min(), value.min()), max(target.max(), value.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        _points(axes, target, value, f"Predicted against true{which}", "true", "predicted")

    return to_svg(draw, size=(4.6, 3.4), label=f"predicted against true numbers{which}", salt=f"against{which}")


def _residuals(target: NDArray[Any], value: NDArray[Any], which: str) -> str:
    def draw(axes: "Axes") -> None:
        axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        _points(axes, value, value - target, f"Residuals{which}", "predicted", "predicted minus true")

    return to_svg(draw, size=(4.6, 3.4), label=f"residuals of predicted numbers{which}", salt=f"residuals{which}")


def _points(axes: "Axes", x: NDArray[Any], y: NDArray[Any], title: str, across: str, up: str) -> None:
    axes.scatter(x, y, s=16, color=TRAIN, alpha=0.6, linewidths=0)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=9)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=RULE, linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)

"""The figure of a benchmark: how long requests take, and how many examples are answered, by batch size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfpt.evaluation.figures import RULE, TRAIN, VALIDATION, to_svg
from tfpt.server.latency import Latency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.4, 3.6)
_COLOURS = (TRAIN, VALIDATION, "#009E73", "#CC79A7")  # Okabe and Ito's palette, as the other figures


def latency_figure(rows: Sequence[Latency]) -> str:
    """Returns SVG: lines are medians, bands reach to the 99th percentile; numbers at the lines are examples a second."""

    from matplotlib.ticker import LogLocator

    def draw(axes: "Axes") -> None:
        for k, engine in enumerate(dict.fromkeys(row.engine for row in rows)):
            own = sorted((row for row in rows if row.engine == engine), key=lambda row: row.batch_size)
            sizes, colour = [row.batch_size for row in own], _COLOURS[k % len(_COLOURS)]
            axes.plot(sizes, [row.p50 for row in own], "o-", color=colour, linewidth=1.8, markersize=4, label=engine)
            axes.fill_between(
                sizes, [row.p50 for row in own], [row.p99 for row in own], color=colour, alpha=0.15, linewidth=0
            )
            for row in own:
                axes.annotate(
                    f"{row.examples_per_second:,.0f}/s", (row.batch_size, row.p50), color=colour, fontsize=8,
                    textcoords="offset points", xytext=(0, -13 if k % 2 else 6), ha="center",
                )  # fmt: skip
        sizes = sorted({row.batch_size for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # its own writes powers as formulas
        axes.minorticks_off()
        axes.margins(x=0.08, y=0.12)
        axes.set_xlabel("examples of a request")
        axes.set_ylabel("milliseconds")
        axes.grid(color=RULE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", frameon=False, fontsize=8)

    label = "milliseconds of a request, median to 99th percentile, and examples a second, by batch size"
    return to_svg(draw, size=SIZE, label=label, salt="latency")

"""The figure of a claim: values against strength, with intervals over repetitions."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reglab.analysis.estimate import joint_interval
from reglab.api.claims.claim import Line, Panel
from reglab.reports.figures.canvas import INK, grid, themed, to_svg

_COLOURS = ("#1d4ed8", "#c2410c", INK)


def draw_claim(panels: Sequence[Panel]) -> Figure:
    """Return the figure of a claim.

    Args:
        panels: Side by side, at least one.
    """
    figure, (axes,) = grid(1, len(panels), 1.6 + 4.4 * len(panels), 2.9)
    for axis, panel in zip(axes, panels, strict=True):
        for line, colour in zip(panel.lines, _COLOURS, strict=False):
            _draw(axis, line, colour)
        axis.set_xticks(range(len(panel.settings)), panel.settings)
        axis.set_xlabel("strength")
        axis.set_title(panel.title)
        if panel.percent:
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axis.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8)
    return figure


def picture(name: str, label: str, panels: Sequence[Panel]) -> str:
    """Return the figure as inline SVG.

    Args:
        name: Unique in the page.
        label: For screen readers.
        panels: Of it.
    """
    with themed():
        return to_svg(draw_claim(panels), name, label)


def _draw(axis: Axes, line: Line, colour: str) -> None:
    columns = list(zip(*line.values, strict=True))
    found = [joint_interval(column, column, column, range(len(column))) for column in columns]
    at = range(len(found))
    axis.fill_between(
        at, [each.low for each in found], [each.high for each in found], color=colour, alpha=0.15, linewidth=0
    )
    axis.plot(at, [each.mean for each in found], "o-", label=line.name, color=colour, markersize=3.5)

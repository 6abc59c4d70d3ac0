"""Histograms of the weights, exact zeros shown separately."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from reglab.analysis.formatting import percent, shortened
from reglab.analysis.sweep_data import Weights
from reglab.reports.figures.canvas import INK, MUTED, grid

BINS = 61
MOST_ROWS = 5


def shares(weights: Weights, edges: Weights) -> tuple[Weights, float]:
    """Return the share of all weights in each bin without exact zeros, and that of exact zeros.

    Weights beyond the edges are counted in the outermost bins, so that everything adds up to one.
    """
    nonzero = weights[weights != 0]
    counts, _ = np.histogram(np.clip(nonzero, edges[0], edges[-1]), bins=edges)
    return counts / weights.size, 1 - nonzero.size / weights.size


def draw_weights(weights: Mapping[str, Weights], palette: Mapping[str, str]) -> Figure | None:
    """Draw a histogram for each setting, counts on a log scale; None without weights.

    Args:
        weights: By label.
        palette: Colours by label; others are drawn in grey.
    """
    known = {label: flat[np.isfinite(flat)] for label, flat in weights.items()}
    shown = [(label, flat) for label, flat in known.items() if flat.size][:MOST_ROWS]
    if not shown:
        return None
    limit = max(float(np.quantile(np.abs(flat), 0.999)) for _, flat in shown) or 1.0
    edges = np.linspace(-limit, limit, BINS + 1)
    figure, axes = grid(len(shown), 1, 9.6, 0.6 + 1.05 * len(shown), sharex=True, sharey=True)
    for (axis,), (label, flat) in zip(axes, shown, strict=True):
        binned, zero = shares(flat, edges)
        colour = palette.get(label, MUTED)
        axis.stairs(binned, edges, fill=True, color=colour, alpha=0.55)
        if zero:
            axis.plot([0, 0], [0, zero], color=colour, linewidth=3.2, solid_capstyle="butt")
            axis.plot(0, zero, "o", color=colour, markersize=5)
        axis.annotate(
            f"exact zeros {percent(zero)}",
            (0.995, 0.9),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8.5,
            color=INK,
            fontweight="bold" if zero else "normal",
        )
        axis.set_title(shortened(label, 60), color=colour)
        axis.set_yscale("log")
        axis.grid(False, axis="x")
        axis.minorticks_off()
    floor = min(1 / flat.size for _, flat in shown)
    axes[0][0].set_ylim(0.7 * floor, 1.6)
    axes[0][0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes[0][0].yaxis.set_major_locator(LogLocator(numticks=4))
    axes[-1][0].set_xlabel("weight")
    figure.supylabel("share of the weights", fontsize=8.5, color=MUTED)
    return figure

"""Figures over epochs: the gap, and training beside validation loss."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reglab.analysis.formatting import metric_name, shortened
from reglab.analysis.selection import Candidate
from reglab.analysis.sweep_data import Curve, History, curve
from reglab.reports.figures.canvas import MUTED, grid

MOST_LINES = 8
MOST_PANELS = 6
TRAINING = (0, (4, 1.5))


def draw_gap(
    shown: Sequence[Candidate], histories: Mapping[str, History], score: str, palette: Mapping[str, str]
) -> Figure | None:
    """Draw the gap in loss and in score over epochs; None without histories."""
    keys = [key for key in ("gap/loss", f"gap/{score}") if _curves(shown, histories, key)]
    if not keys:
        return None
    figure, axes = grid(1, len(keys), 9.6, 3.1)
    for axis, key in zip(axes[0], keys, strict=True):
        curves = _curves(shown, histories, key)
        for candidate, drawn in curves:
            _band(axis, drawn, palette[candidate.block])
        axis.axhline(0, color=MUTED, linewidth=0.8)
        axis.set_title(metric_name(key))
        axis.set_xlabel("epoch")
        _frame(axis, [drawn for _, drawn in curves], bottom=None)
        _end_labels(axis, [(shortened(c.label, 24), float(drawn.mean[-1]), palette[c.block]) for c, drawn in curves])
    return figure


def draw_curves(
    shown: Sequence[Candidate], histories: Mapping[str, History], palette: Mapping[str, str]
) -> Figure | None:
    """Draw training and validation loss, a panel for each candidate; None without histories."""
    panels = [c for c in shown if curve(c, histories, "train/loss") and curve(c, histories, "val/loss")][:MOST_PANELS]
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = grid(rows, columns, 3.2 * columns, 0.3 + 2.2 * rows, sharex=True, sharey=True)
    flat = [axis for row in axes for axis in row]
    drawn: list[Curve] = []
    for axis, candidate in zip(flat, panels, strict=False):
        colour = palette[candidate.block]
        train, val = (_curve_of(candidate, histories, key) for key in ("train/loss", "val/loss"))
        drawn += [train, val]
        if np.array_equal(train.epochs, val.epochs):
            axis.fill_between(train.epochs, train.mean, val.mean, color=colour, alpha=0.18, linewidth=0)
        axis.plot(val.epochs, val.mean, color=colour)
        axis.plot(train.epochs, train.mean, color=colour, linewidth=1.3, linestyle=TRAINING)
        axis.set_title(shortened(candidate.label, 34), color=colour)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    _frame(flat[0], drawn, bottom=0.0)
    lines = [Line2D([], [], color=MUTED), Line2D([], [], color=MUTED, linewidth=1.3, linestyle=TRAINING)]
    flat[0].legend(lines, ["validation", "training"], loc="upper right", fontsize=8)
    for row in axes:
        row[0].set_ylabel("loss")
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    return figure


def _curve_of(candidate: Candidate, histories: Mapping[str, History], key: str) -> Curve:
    its_curve = curve(candidate, histories, key)
    assert its_curve is not None  # panels have both curves
    return its_curve


def _curves(shown: Sequence[Candidate], histories: Mapping[str, History], key: str) -> list[tuple[Candidate, Curve]]:
    pairs = ((candidate, curve(candidate, histories, key)) for candidate in shown[:MOST_LINES])
    return [(candidate, its_curve) for candidate, its_curve in pairs if its_curve is not None]


def _band(axis: Axes, drawn: Curve, colour: str) -> None:
    axis.fill_between(drawn.epochs, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)
    axis.plot(drawn.epochs, drawn.mean, color=colour)


def _frame(axis: Axes, drawn: Sequence[Curve], bottom: float | None) -> None:
    """Fit the vertical range to the values after the first tenth of the epochs."""
    late = [np.concatenate([c.low[len(c.low) // 10 :], c.high[len(c.high) // 10 :]]) for c in drawn]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = min(float(values.min()), 0.0), float(values.max())
    room = 0.06 * ((high - low) or 1.0)
    axis.set_ylim(low - room if bottom is None or low < 0 else bottom, high + room)
    axis.locator_params(axis="x", integer=True, nbins=6)


def _end_labels(axis: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write each line's label at its right end, moved apart where labels would overlap."""
    low, high = axis.get_ylim()
    step = 0.075 * (high - low)
    height = -np.inf
    finite = [end for end in ends if np.isfinite(end[1])]
    for label, value, colour in sorted(finite, key=lambda end: end[1]):
        height = max(min(value, high), height + step, low)
        axis.annotate(
            label,
            (1.01, height),
            xycoords=("axes fraction", "data"),
            color=colour,
            fontsize=8,
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )

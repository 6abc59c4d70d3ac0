"""Summary figure: each block's choice in one row, with its gap, loss, score and zeros."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reglab.analysis.formatting import metric_name, number, percent, shortened
from reglab.analysis.selection import Candidate, Choice
from reglab.reports.figures.canvas import GRID, INK, MUTED, grid

Range = tuple[float, float, float]  # mean, low, high
MOST_ROWS = 14


def rows(choice: Choice) -> list[Candidate]:
    """Return the candidates that are shown: baseline, chosen one, then the rest from the best.

    That is each block's choice, or all settings if there is one block; at most ``MOST_ROWS``.
    """
    shown = list(choice.blocks.values()) if len(choice.blocks) > 1 else list(choice.candidates)
    base, chosen = choice.baseline, choice.chosen
    first = [chosen] if base is None or base is chosen else [base, chosen]
    rest = [c for c in sorted(shown, key=choice.loss) if not any(c is other for other in first)]
    if base is not None and len(choice.blocks) > 1:
        rest = [c for c in rest if c.regularizer != "none"]  # the baseline is shown already
    return [*first, *rest][:MOST_ROWS]


def draw_summary(choice: Choice, score: str, palette: dict[str, str]) -> Figure:
    """Draw a row for each block's choice and a panel for each measure; dashed: the baseline."""
    shown = rows(choice)
    key = f"val/{score}"
    panels = [
        ("gap in loss", [_interval(c, "gap/loss") for c in shown]),
        (metric_name("val/loss"), [_one_error(c, "val/loss") for c in shown]),
        (metric_name(key), [_range(c, key) for c in shown]),
    ]
    figure, (axes,) = grid(1, 4, 9.6, 0.75 + 0.36 * len(shown), sharey=True)
    for axis, (title, ranges) in zip(axes, panels, strict=False):
        axis.set_title(title, fontsize=9)
        _dots(axis, shown, ranges, choice, palette)
    axes[3].set_title("exact zeros", fontsize=9)
    _bars(axes[3], shown, choice, palette)
    axes[0].set_yticks(range(len(shown)), [shortened(c.label, 34) for c in shown])
    axes[0].set_ylim(len(shown) - 0.45, -0.55)
    for tick, candidate in zip(axes[0].get_yticklabels(), shown, strict=True):
        tick.set(color=INK, fontsize=9, fontweight=_weight(candidate, choice))
    for axis in axes:
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.grid(False, axis="y")
    return figure


def _dots(axis: Axes, shown: list[Candidate], ranges: list[Range], choice: Choice, palette: dict[str, str]) -> None:
    for y, (candidate, (mean, low, high)) in enumerate(zip(shown, ranges, strict=True)):
        if math.isnan(mean):
            continue
        colour, chosen = palette[candidate.block], candidate is choice.chosen
        axis.plot([low, high], [y, y], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
        axis.plot(mean, y, "o", color=colour, markersize=8 if chosen else 5.5)
        axis.annotate(
            number(mean), (mean, y), (0, 6), textcoords="offset points", ha="center", va="bottom",
            fontsize=8, fontweight=_weight(candidate, choice),
        )  # fmt: skip
        if candidate is choice.baseline:
            line = (y, len(shown) - 0.45)
            axis.plot([mean, mean], line, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    axis.locator_params(axis="x", nbins=4)
    axis.margins(x=0.16)


def _bars(axis: Axes, shown: list[Candidate], choice: Choice, palette: dict[str, str]) -> None:
    known = [(y, c) for y, c in enumerate(shown) if c.has("weights/zeros")]
    for y, candidate in known:
        alpha = 0.9 if candidate is choice.chosen else 0.6
        axis.barh(y, candidate.zeros, height=0.5, color=palette[candidate.block], alpha=alpha)
        axis.annotate(
            percent(candidate.zeros), (candidate.zeros, y), (4, 0), textcoords="offset points", va="center",
            fontsize=8, fontweight=_weight(candidate, choice),
        )  # fmt: skip
    top = max((c.zeros for _, c in known), default=0.0)
    axis.set_xlim(0, max(1.35 * top, 0.01))
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.axvline(0, color=GRID, linewidth=0.8)


def _weight(candidate: Candidate, choice: Choice) -> str:
    return "bold" if candidate is choice.chosen else "normal"


def _interval(candidate: Candidate, key: str) -> Range:
    interval = candidate.interval(key)
    return interval.mean, interval.low, interval.high


def _one_error(candidate: Candidate, key: str) -> Range:
    if not candidate.has(key):
        return math.nan, math.nan, math.nan
    estimate = candidate.estimate(key)
    return estimate.mean, estimate.mean - estimate.error, estimate.mean + estimate.error


def _range(candidate: Candidate, key: str) -> Range:
    values = candidate.values(key)
    return (candidate.mean(key), min(values), max(values)) if values else (math.nan, math.nan, math.nan)

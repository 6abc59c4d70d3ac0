"""The answer at a glance: each block's choice in one row, with its gap, loss, score and zeros."""

import math
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reglab.reports.figures.canvas import GRID, INK, MUTED, grid
from reglab.sweeps.selection import Candidate, Choice
from reglab.sweeps.words import metric_name, number, percent

Range = tuple[float, float, float]  # mean, low, high
MOST_ROWS = 14


def rows(choice: Choice) -> list[Candidate]:
    """Return what is compared: each block's choice, or all settings if there is one block; baseline first."""
    shown = list(choice.blocks.values()) if len(choice.blocks) > 1 else list(choice.candidates)
    ranked = sorted(shown, key=choice.loss)
    base = [choice.baseline] if choice.baseline is not None else []
    rest = [c for c in ranked if c.regularizer != "none" or not base]
    kept = [*base, *rest][:MOST_ROWS]
    return kept if any(c is choice.chosen for c in kept) else [*kept[:-1], choice.chosen]


def draw_summary(choice: Choice, score: str, palette: dict[str, str]) -> Figure:
    """Draw one row per block's choice and one panel per measure; the baseline's value is the dashed line."""
    shown = rows(choice)
    panels: list[tuple[str, Callable[[Candidate], Range]]] = [
        ("gap in loss", lambda c: (lambda i: (i.mean, i.low, i.high))(c.interval("gap/loss"))),
        (metric_name("val/loss"), lambda c: _one_error(c, "val/loss")),
        (metric_name(f"val/{score}"), lambda c: _range(c, f"val/{score}")),
        ("exact zeros", lambda c: _range(c, "weights/zeros")),
    ]
    figure, axes = grid(1, len(panels), 9.6, 0.75 + 0.36 * len(shown), sharey=True)
    for axis, (title, measure) in zip(axes[0], panels, strict=True):
        _panel(axis, title, shown, measure, choice, palette)
    first = axes[0][0]
    first.set_yticks(range(len(shown)), [c.label for c in shown])
    first.set_ylim(len(shown) - 0.45, -0.55)
    for tick, candidate in zip(first.get_yticklabels(), shown, strict=True):
        tick.set_color(INK)
        tick.set_fontsize(9)
        tick.set_fontweight("bold" if candidate is choice.chosen else "normal")
    return figure


def _panel(
    axis: Axes,
    title: str,
    shown: list[Candidate],
    measure: Callable[[Candidate], Range],
    choice: Choice,
    palette: dict[str, str],
) -> None:
    zeros = title == "exact zeros"
    say = percent if zeros else number
    axis.set_title(title, fontsize=9)
    for place, candidate in enumerate(shown):
        mean, low, high = measure(candidate)
        if math.isnan(mean):
            continue
        colour = palette[candidate.block]
        chosen = candidate is choice.chosen
        if zeros:
            axis.barh(place, mean, height=0.5, color=colour, alpha=0.85 if chosen else 0.6)
        else:
            axis.plot([low, high], [place, place], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
            axis.plot(mean, place, "o", color=colour, markersize=8 if chosen else 5.5)
        offset = (4, 0) if zeros else (0, 6)
        axis.annotate(
            say(mean),
            (mean, place),
            offset,
            textcoords="offset points",
            ha="left" if zeros else "center",
            va="center" if zeros else "bottom",
            fontsize=8,
            fontweight="bold" if chosen else "normal",
        )
        if candidate is choice.baseline and not zeros:
            axis.axvline(mean, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    _finish(axis, zeros, [measure(candidate) for candidate in shown])


def _finish(axis: Axes, zeros: bool, ranges: list[Range]) -> None:
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(False, axis="y")
    axis.locator_params(axis="x", nbins=4)
    if zeros:
        top = max((mean for mean, _, _ in ranges if not math.isnan(mean)), default=0.0)
        axis.set_xlim(0, max(1.35 * top, 0.01) if top < 0.7 else 1.3)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.axvline(0, color=GRID, linewidth=0.8)
    else:
        axis.margins(x=0.16)


def _one_error(candidate: Candidate, key: str) -> Range:
    if not candidate.has(key):
        return math.nan, math.nan, math.nan
    estimate = candidate.estimate(key)
    return estimate.mean, estimate.mean - estimate.error, estimate.mean + estimate.error


def _range(candidate: Candidate, key: str) -> Range:
    values = candidate.values(key)
    return (candidate.mean(key), min(values), max(values)) if values else (math.nan, math.nan, math.nan)

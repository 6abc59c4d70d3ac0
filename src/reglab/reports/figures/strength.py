"""Gap, validation loss, score and exact zeros against strength, a column for each regularizer."""

from collections.abc import Sequence
from fnmatch import fnmatch

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reglab.analysis.formatting import metric_name, shortened
from reglab.analysis.selection import Candidate, Choice
from reglab.reports.figures.axis import BlockAxis, block_axis, scale
from reglab.reports.figures.canvas import INK, grid

MOST_COLUMNS = 5
MOST_ROWS = 12


def swept(choice: Choice) -> list[tuple[str, BlockAxis]]:
    """Return the blocks that have a number to draw against, with their axes, best first."""
    blocks: dict[str, list[Candidate]] = {}
    for candidate in sorted(choice.candidates, key=choice.loss):
        blocks.setdefault(candidate.block, []).append(candidate)
    axes = ((block, block_axis(members)) for block, members in blocks.items())
    return [(block, axis) for block, axis in axes if axis is not None][:MOST_COLUMNS]


def draw_strength(choice: Choice, score: str, palette: dict[str, str]) -> Figure | None:
    """Draw gap, loss, score and exact zeros in rows over the blocks' columns; None if no block has a
    number.
    """
    keys = [
        ("gap/loss", "gap in loss"),
        ("val/loss", metric_name("val/loss")),
        (f"val/{score}", metric_name(f"val/{score}")),
        ("weights/zeros", "exact zeros"),
    ]
    return _rows(choice, [(key, name) for key, name in keys if any(c.has(key) for c in choice.candidates)], palette)


def draw_measures(choice: Choice, charts: Sequence[str], palette: dict[str, str]) -> Figure | None:
    """Draw what other measures say in rows over the blocks' columns, the first ``MOST_ROWS`` of them;
    None if there is nothing to draw.

    Args:
        choice: The choice.
        charts: Patterns of metrics.
        palette: Of the blocks.
    """
    known = {key for candidate in choice.candidates for trial in candidate.trials for key in trial.metrics}
    found = [key for chart in charts for key in sorted(known) if fnmatch(key, chart)]
    named = [(key, shortened(key.replace("/all/", "/").replace("_", " "), 26)) for key in dict.fromkeys(found)]
    return _rows(choice, [(key, name) for key, name in named if any(c.has(key) for c in choice.candidates)], palette)


def _rows(choice: Choice, keys: Sequence[tuple[str, str]], palette: dict[str, str]) -> Figure | None:
    columns, keys = swept(choice), keys[:MOST_ROWS]
    if not columns or not keys:
        return None
    figure, axes = grid(
        len(keys), len(columns), min(9.6, 2 + 2.2 * len(columns)), 0.6 + 1.45 * len(keys), sharey="row", sharex="col"
    )
    for axes_row, (key, name) in zip(axes, keys, strict=True):
        axes_row[0].set_ylabel(name)
        axes_row[0].locator_params(axis="y", nbins=4)
        for axis, (block, x_axis) in zip(axes_row, columns, strict=True):
            _reference(axis, choice.baseline, key, palette, last=block == columns[-1][0])
            for line in x_axis.lines:
                _line(axis, [(x, c) for x, c in line if c.has(key)], key, palette[block], choice)
        if key == "weights/zeros":
            top = axes_row[0].get_ylim()[1]
            axes_row[0].set_ylim(-0.03 * max(top, 0.01), max(top, 0.01))
            axes_row[0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    for axis, bottom, (block, x_axis) in zip(axes[0], axes[-1], columns, strict=True):
        axis.set_title(shortened(block, 18 if len(columns) > 3 else 28), color=palette[block])
        scale(bottom, x_axis)
    return figure


def _reference(axis: Axes, baseline: Candidate | None, key: str, palette: dict[str, str], last: bool) -> None:
    if baseline is None or not baseline.has(key):
        return
    colour, values = palette[baseline.block], baseline.values(key)
    axis.axhspan(min(values), max(values), color=colour, alpha=0.22, linewidth=0)
    axis.axhline(baseline.mean(key), color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
    if last:
        end = (1.02, baseline.mean(key))
        axis.annotate(
            shortened(baseline.label, 16),
            end,
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )


def _line(axis: Axes, points: list[tuple[float, Candidate]], key: str, colour: str, choice: Choice) -> None:
    xs = [x for x, _ in points]
    runs = [c.values(key) for _, c in points]
    axis.fill_between(xs, [min(v) for v in runs], [max(v) for v in runs], color=colour, alpha=0.2, linewidth=0)
    axis.plot(xs, [c.mean(key) for _, c in points], "-o", color=colour, markersize=3.5)
    for x, candidate in points:
        if candidate is choice.chosen:
            axis.plot(x, candidate.mean(key), "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)

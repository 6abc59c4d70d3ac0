"""Bias², variance, noise, their sum and the measured risk against strength, a column a regularizer."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reglab.analysis.bias_variance.decompose import BIAS, BIAS_NOISE, NOISE, RISK, SUM, VARIANCE, Decomposition
from reglab.analysis.bias_variance.intervals import Number
from reglab.analysis.bias_variance.tradeoff import BiasVariance, bias_name
from reglab.analysis.formatting import shortened
from reglab.analysis.trial import Candidate
from reglab.reports.figures.axis import BlockAxis, block_axis, scale
from reglab.reports.figures.canvas import INK, MUTED, grid

MOST_COLUMNS = 5
_COLOURS = {BIAS: "#c2410c", BIAS_NOISE: "#c2410c", VARIANCE: "#1d4ed8", NOISE: MUTED, SUM: INK}


def draw_bias_variance(found: BiasVariance) -> Figure | None:
    """Return the figure; None if no regularizer was tried at several strengths.

    Args:
        found: Of the sweep.
    """
    parts = {candidate.label: each for candidate, each in found.settings}
    columns = _columns([candidate for candidate, _ in found.settings])
    if not columns:
        return None
    figure, (axes,) = grid(1, len(columns), min(9.6, 2.2 + 2.4 * len(columns)), 3.2, sharey="row")
    for axis, (block, x_axis) in zip(axes, columns, strict=True):
        for line in x_axis.lines:
            _lines(axis, line, parts)
        axis.set_title(shortened(block, 18 if len(columns) > 3 else 28))
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        scale(axis, x_axis)
    first = found.settings[0][1].main
    axes[0].set_ylabel(first.loss)
    names = {BIAS: bias_name(first), BIAS_NOISE: bias_name(first), RISK: "measured risk", SUM: "sum"}
    handles, labels = axes[0].get_legend_handles_labels()
    unique = {str(label): handle for label, handle in zip(labels, handles, strict=True)}
    figure.legend(
        list(unique.values()), [names.get(key, key) for key in unique], loc="outside upper left", ncols=5, fontsize=8
    )
    return figure


def _columns(candidates: Sequence[Candidate]) -> list[tuple[str, BlockAxis]]:
    blocks: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        blocks.setdefault(candidate.block, []).append(candidate)
    axes = ((block, block_axis(members)) for block, members in blocks.items())
    return [(block, axis) for block, axis in axes if axis is not None][:MOST_COLUMNS]


def _lines(axis: Axes, line: Sequence[tuple[float, Candidate]], parts: Mapping[str, Decomposition]) -> None:
    xs = [x for x, _ in line]
    numbers = [parts[candidate.label].main.numbers for _, candidate in line]
    for key, colour in _COLOURS.items():
        if key in numbers[0]:
            _band(axis, xs, [each[key] for each in numbers], key, colour)
    axis.plot(xs, [each[RISK].value for each in numbers], "o", label=RISK, markersize=4.5, color=INK)
    if SUM not in numbers[0]:  # it is the risk, exactly
        axis.plot(xs, [each[RISK].value for each in numbers], "-", label=SUM, color=INK, linewidth=1.2)


def _band(axis: Axes, xs: Sequence[float], found: Sequence[Number], key: str, colour: str) -> None:
    if key != SUM and all(number.low == number.low for number in found):
        lows, highs = [number.low for number in found], [number.high for number in found]
        axis.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axis.plot(
        xs, [number.value for number in found], "-", label=key, color=colour, linewidth=1.2 if key == SUM else 1.8
    )

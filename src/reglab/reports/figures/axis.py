"""Horizontal axis of a block's plots: its strength, or the one number that varies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes

from reglab.analysis.formatting import compact
from reglab.analysis.grouping import short_key
from reglab.analysis.selection import Candidate


@dataclass(frozen=True)
class BlockAxis:
    """A block's horizontal axis.

    Attributes:
        name: Its label.
        lines: (position, candidate) pairs, a line for candidates that differ in nothing else.
        stronger: +1 or -1 where larger or smaller positions are stronger; 0 where it is no
            strength.
    """

    name: str
    lines: tuple[tuple[tuple[float, Candidate], ...], ...]
    stronger: int  # 0 where the axis is no strength

    @property
    def ticks(self) -> list[float]:
        """The positions that were tried, in ascending order."""
        return sorted({x for line in self.lines for x, _ in line})


def block_axis(block: Sequence[Candidate]) -> BlockAxis | None:
    """Return a block's axis; None if no single number distinguishes its candidates."""
    if len({c.strength for c in block}) > 1 and all(c.strength is not None for c in block):
        return _lines("strength", [(c.strength or 0.0, c) for c in block], "", block[0].stronger)
    for key in block[0].settings:
        try:
            positions = [(float(c.settings[key]), c) for c in block]
        except ValueError:
            continue
        if len({x for x, _ in positions}) > 1:
            return _lines(short_key(key, block[0].settings), positions, key, 0)
    return None


def _lines(name: str, positions: list[tuple[float, Candidate]], key: str, stronger: int) -> BlockAxis:
    lines: dict[object, list[tuple[float, Candidate]]] = {}
    for x, candidate in positions:
        rest = tuple(item for item in candidate.settings.items() if item[0] != key)
        lines.setdefault(rest if key == "" else (candidate.strength, rest), []).append((x, candidate))
    ordered = (tuple(sorted(line, key=lambda pair: pair[0])) for line in lines.values())
    return BlockAxis(name, tuple(ordered), stronger)


def even_on_log(ticks: Sequence[float]) -> bool:
    """Tell whether positions (all > 0, ascending) are spaced more evenly on a log scale."""
    if len(ticks) < 3:
        return ticks[-1] >= 10 * ticks[0]
    return _unevenness([math.log(x) for x in ticks]) < _unevenness(ticks)


def _unevenness(ticks: Sequence[float]) -> float:
    steps = [right - left for left, right in pairwise(ticks)]
    return max(steps) / min(steps)


def scale(axis: Axes, x_axis: BlockAxis, most_ticks: int = 5) -> None:
    """Set scale, direction (stronger to the right) and ticks of an axis."""
    ticks = x_axis.ticks
    positive = [x for x in ticks if x > 0]
    if len(positive) > 1 and ticks[0] >= 0 and even_on_log(positive):
        if ticks[0] == 0:
            axis.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        else:
            axis.set_xscale("log")
    stride = -(-len(ticks) // most_ticks)
    kept = ticks[::stride]
    axis.set_xticks(kept, [compact(x) for x in kept])
    axis.minorticks_off()
    axis.margins(x=0.1)
    if x_axis.stronger < 0:
        axis.invert_xaxis()
    axis.set_xlabel(f"{x_axis.name}{' (stronger →)' if x_axis.stronger else ''}")

"""Unbiased second moments of predictions from pairs of runs (U-statistics), and what the runs share."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# What made runs differ: name -> the level of each run, [runs].
Factors = Mapping[str, Integers]


def varying(factors: Mapping[str, Sequence[object]]) -> dict[str, Integers]:
    """Return the factors that have several levels, as numbers from 0.

    Args:
        factors: Name -> the level of each run, e.g. ``{"replica": ["0", "1"], "seed": ["0", "0"]}``.
    """
    coded = {}
    for name, levels in factors.items():
        labels, codes = np.unique([str(level) for level in levels], return_inverse=True)
        if len(labels) > 1:
            coded[name] = codes.astype(np.int64)
    return coded


def restricted(factors: Factors, kept: NDArray[np.bool_]) -> dict[str, Integers]:
    """Return the factors of the runs that are kept, without those of one level.

    Args:
        factors: ``[runs]`` each.
        kept: ``[runs]``.
    """
    return varying({name: levels[kept].tolist() for name, levels in factors.items()})


def clusters(factors: Factors) -> dict[str, Integers]:
    """Return the factors whose levels are independent draws: those that are not nested in another.

    Seeds of their own in each replica are nested in it: a replica's runs are left out together.
    Of factors that vary only together the first counts.

    Args:
        factors: The factors that vary.
    """
    items = list(factors.items())

    def counts(place: int) -> bool:
        levels = items[place][1]
        others = [(other, those) for other, (_, those) in enumerate(items) if other != place]
        return not any(
            _nested(levels, those) and (other < place or not _nested(those, levels)) for other, those in others
        )

    return {name: levels for place, (name, levels) in enumerate(items) if counts(place)}


def _nested(inner: Integers, outer: Integers) -> bool:
    """Tell whether each level of ``inner`` is found in one level of ``outer`` alone."""
    return len(set(zip(inner.tolist(), outer.tolist(), strict=True))) == len(set(inner.tolist()))


def pair_means(values: Floats, factors: Factors) -> dict[frozenset[str], Floats]:
    """Return the mean product of two different runs, by the factors that both share.

    With ``f`` made of independent effects of the factors and their interactions, the mean over
    pairs that share nothing estimates ``(E f)^2`` without bias, and that over pairs which share
    one factor adds the variance of this factor's effect.

    Args:
        values: Predictions ``[runs, ...]``.
        factors: Each with several levels, ``[runs]``.

    Returns:
        For each set of factors that some pair shares exactly: ``[...]``.

    Source:
        Hoeffding (1948), A class of statistics with asymptotically normal distribution.
    """
    names = list(factors)
    subsets = [frozenset(chosen) for size in range(len(names), -1, -1) for chosen in combinations(names, size)]
    squares, runs = (values**2).sum(0), len(values)
    sums: dict[frozenset[str], Floats] = {}
    counts: dict[frozenset[str], int] = {}
    for shared in subsets:  # the largest first
        labels = _labels([factors[name] for name in shared], runs)
        sizes = np.bincount(labels)
        members = (labels == np.arange(len(sizes))[:, None]).astype(np.float64)
        total = (np.tensordot(members, values, 1) ** 2).sum(0) - squares
        count = int((sizes**2).sum()) - runs
        larger = [other for other in subsets if shared < other]
        sums[shared] = total - sum((sums[other] for other in larger), np.zeros_like(total))
        counts[shared] = count - sum(counts[other] for other in larger)
    return {shared: sums[shared] / counts[shared] for shared in subsets if counts[shared]}


def _labels(levels: Sequence[Integers], runs: int) -> Integers:
    """Return a number for each combination of levels, ``[runs]``."""
    if not levels:
        return np.zeros(runs, dtype=np.int64)
    combined: Integers = np.unique(np.stack(levels), axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return combined

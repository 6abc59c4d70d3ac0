"""Joint test of all settings against the baseline (max-t bootstrap), and the winner's curse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from reglab.analysis.paired import Array, Scored, Splits, aligned, difference

RESAMPLES = 2000
_MOST_ROWS = 4096  # above it the means are normal, and their covariance is enough


@dataclass(frozen=True)
class Claim:
    """The paired t of each setting against the baseline, with multiplicity-adjusted p-values.

    Attributes:
        t: Below 0 where the setting is better than the baseline, ``[settings]``.
        p: Share of the sweeps without any effect in which some setting has a t as low as this
            one's, ``[settings]``.
        seeds: How many runs each setting has at least. With 1 the noise between seeds is unknown
            and would pass for an effect: nothing is claimed.
        level: At which a claim is made.
    """

    t: tuple[float, ...]
    p: tuple[float, ...]
    seeds: int
    level: float = 0.05

    def better(self, index: int) -> bool:
        """Tell whether the setting at ``index`` is better than the baseline, at the joint level."""
        return self.seeds > 1 and self.p[index] <= self.level

    @property
    def helps(self) -> bool:
        """Whether any setting is better than the baseline."""
        return any(self.better(index) for index in range(len(self.t)))


def claim(settings: Sequence[Splits], baseline: Splits, seed: int = 0, level: float = 0.05) -> Claim | None:
    """Compare all settings with the baseline at once, by a max-t bootstrap.

    ``p_k = P( min over settings of t* <= t_k )``, where t* has the distribution of the settings' t
    if none had an effect. One-sided, since that is the claim, and since the sides differ:
    differences of losses are skewed. Validation rows are drawn with replacement, the same for all
    settings, and each setting gets seed effects of its own, normal with the variance observed
    between seeds; both errors are estimated anew in every resample. So the chance that any of the
    settings is claimed where none helps is ``level``, however many there are.

    With several splits each t has Student's distribution with ``splits - 1`` degrees of freedom,
    and the settings count as independent (Sidak 1967).

    Args:
        settings: Of each setting, what it reached on each split.
        baseline: The same of training without a regularizer.
        seed: Of the resamples.
        level: Chance of a false claim in the whole sweep.

    Returns:
        The claim; None where some setting cannot be compared.

    Source: Westfall & Young (1993), Resampling-based multiple testing, section 2.3.
    """
    differences = [difference(setting, baseline) for setting in settings]
    if not settings or any(paired is None for paired in differences):
        return None
    available = [paired for paired in differences if paired is not None]
    t, seeds = (
        np.array([paired.t for paired in available]),
        min(paired.seeds for paired in available),
    )
    if len(baseline) > 1:
        single = np.array([stdtr(paired.freedom, paired.t) for paired in available])
        return Claim(tuple(t), tuple(1 - (1 - single) ** len(available)), seeds, level)
    split = next(iter(baseline))
    pairs = [aligned(setting[split], baseline[split]) for setting in settings]
    lowest = _null(pairs, np.random.default_rng(seed)).min(1)
    p = [(1 + int((lowest <= value).sum())) / (1 + len(lowest)) for value in t]
    return Claim(tuple(float(value) for value in t), tuple(p), seeds, level)


def _null(pairs: Sequence[tuple[Scored, Scored, bool]], draw: np.random.Generator) -> Array:
    """Return t of each setting in resampled sweeps without an effect, ``[resamples, settings]``."""
    noise = np.stack([first.noise.mean(0) - second.noise.mean(0) for first, second, _ in pairs], axis=1)
    scored = pairs[0][0]
    means, squares = _resampled(noise, scored, draw)
    seeds = [_seed_error(first, second, paired) for first, second, paired in pairs]
    for count in {count for _, count in seeds if count > 1}:
        indices = [index for index, (_, each) in enumerate(seeds) if each == count]
        errors = np.array([seeds[index][0] for index in indices])
        effects = draw.standard_normal((RESAMPLES, count, len(indices))) * errors * math.sqrt(count)
        means[:, indices] += effects.mean(1)
        squares[:, indices] += effects.var(1, ddof=1) / count
    return np.divide(means, np.sqrt(squares), out=np.zeros_like(means), where=squares > 0)


def _resampled(noise: Array, scored: Scored, draw: np.random.Generator) -> tuple[Array, Array]:
    """Return each column's shift of the mean in resamples of the rows, and its squared errors."""
    rows = len(noise)
    centred = noise - noise.mean(0)
    error = centred.var(0, ddof=1) * scored.spread
    if scored.unit_variance or rows > _MOST_ROWS:
        covariance = np.atleast_2d(np.cov(centred, rowvar=False)) * scored.spread
        moved = draw.multivariate_normal(np.zeros(noise.shape[1]), covariance, RESAMPLES, method="eigh")
        return moved, np.broadcast_to(error, moved.shape).copy()
    counts = draw.multinomial(rows, np.full(rows, 1 / rows), RESAMPLES) / rows
    means = counts @ centred
    spread = np.maximum(counts @ centred**2 - means**2, 0) * rows / (rows - 1)
    return means, spread * scored.spread


def _seed_error(first: Scored, second: Scored, paired: bool) -> tuple[float, int]:
    """Return the standard error of the difference due to seeds, and the number of seeds."""
    if paired:
        values, count = first.values - second.values, len(first.values)
        return (math.sqrt(values.var(ddof=1) / count) if count > 1 else 0.0), count
    sides = [side.values for side in (first, second)]
    count = min(len(values) for values in sides)
    squares = [values.var(ddof=1) / len(values) for values in sides if len(values) > 1]
    return math.sqrt(sum(squares)), count


def optimism(settings: Sequence[Splits], seed: int = 0) -> float:
    """Return by how much the best of several settings looks better than it is (winner's curse).

    ``mean over resamples of ( m[k*] - m*[k*] )``, where ``m*`` are the settings' means in a
    resample of the validation rows (with seed effects drawn as for ``claim``), ``k*`` is the best
    there, and ``m`` are the means that it is a resample of, shrunk until they vary as the true ones
    do.

    Args:
        settings: Of each setting, what it reached on each split.
        seed: Of the resamples.

    Returns:
        The bias; 0 for a single setting, and where the settings have no rows in common.

    Source: Tibshirani & Tibshirani (2009), A bias correction for the minimum error rate in
    cross-validation; Efron (1983) for the bootstrap of optimism.
    """
    if len(settings) < 2:
        return 0.0
    shared = [split for split in settings[0] if _same_rows([setting.get(split) for setting in settings])]
    if not shared:
        return 0.0
    generators = [np.random.default_rng([seed, index]) for index in range(len(shared))]
    resamples = [
        _moved([setting[split] for setting in settings], generator)
        for split, generator in zip(shared, generators, strict=True)
    ]
    means: Array = np.mean([mean for mean, _ in resamples], axis=0)
    moved: Array = np.mean([move for _, move in resamples], axis=0)
    best = (_deflated(means, moved) + moved).argmin(1)
    return float(-moved[np.arange(len(best)), best].mean())


def _deflated(means: Array, moved: Array) -> Array:
    """Return the means shrunk so that they vary as the true means do.

    ``var(means) = var(true means) + noise``; noise that is common to all settings does not count.
    """
    deviations = moved - moved.mean(1, keepdims=True)
    noise = float(deviations.var(0).sum()) / (len(means) - 1)
    spread = float(means.var(ddof=1))
    shrink = math.sqrt(max(0.0, 1 - noise / spread)) if spread > 0 else 0.0
    deflated: Array = means.mean() + shrink * (means - means.mean())
    return deflated


def _same_rows(scored: Sequence[Scored | None]) -> bool:
    available = [one.rows for one in scored if one is not None]
    return len(available) == len(scored) and all(np.array_equal(rows, available[0]) for rows in available)


def _moved(scored: Sequence[Scored], draw: np.random.Generator) -> tuple[Array, Array]:
    """Return the settings' means, and their shift in every resample, ``[resamples, settings]``."""
    moved, _ = _resampled(np.stack([one.noise.mean(0) for one in scored], axis=1), scored[0], draw)
    common = [repeat for repeat in scored[0].repeats if all(repeat in one.repeats for one in scored)]
    if len(common) > 1:
        values = np.stack([one.take(common).values for one in scored])
        deviations = values - values.mean(0)  # effects common to all settings cancel
        errors = np.sqrt(deviations.var(1, ddof=1) / len(common))
        moved = moved + draw.standard_normal(moved.shape) * errors
    return np.array([one.values.mean() for one in scored]), moved

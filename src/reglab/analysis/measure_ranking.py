"""Which numbers of finished runs rank their gaps: Kendall's tau, granulated Kendall, robust sign error."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import plural
from reglab.analysis.grouping import setting_of
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError, nearest

Array = NDArray[np.floating[Any]]

LEAST_RUNS = 5  # fewer have no order to speak of, and as few settings no interval
LEAST_PAIRS = 5  # of an environment whose share of wrong signs counts
_DRAWS = 1000
_SIDES = ("val", "gap", "test", "train", "naive")  # first part of a name: the gap, its parts, what contains them
_SEEN = ("val", "gap", "test")  # word of a name: measured on rows that the gap is measured on
_ENDS = ("_low", "_high", "_se")


@dataclass(frozen=True)
class Ranked:
    """How well one number ranks the gaps of runs.

    Attributes:
        name: Of the number.
        runs: How many have it.
        tau: Kendall's tau-b with the gap over these, and its bootstrap interval; NaN for an end that
            too few settings leave unknown.
        by_setting: Of each setting that varies, the mean sign agreement of pairs of runs that differ
            in it alone.
        sign_error: The largest share of wrong signs of an environment, where the number predicts in
            the direction of ``granulated`` (else of ``tau``); NaN where no environment is large
            enough.
        environment: In which it is reached.
    """

    name: str
    runs: int
    tau: Interval
    by_setting: Mapping[str, float] = field(default_factory=dict)
    sign_error: float = math.nan
    environment: str = ""

    @property
    def granulated(self) -> float:
        """The mean of ``by_setting``; NaN where no two runs differ in one setting alone."""
        return float(np.mean(list(self.by_setting.values()))) if self.by_setting else math.nan


@dataclass(frozen=True)
class Ranking:
    """The numbers of some runs, those that rank their gaps best first.

    Attributes:
        gap: What is predicted.
        ranked: The numbers.
        runs: How many were compared.
        settings: How many settings they have.
        lost: How many more runs have no finite gap.
        left_out: Numbers that were measured on the rows of the gap itself.
        level: Of the intervals.
    """

    gap: str
    ranked: tuple[Ranked, ...]
    runs: int
    settings: int
    lost: int
    left_out: tuple[str, ...]
    level: float


@dataclass(frozen=True)
class _Granule:
    """Pairs of runs that differ in one setting alone.

    Attributes:
        key: Of the setting.
        first, second: Runs of the pairs, int64 ``[pairs]``.
        context: The number of the other settings' values, ``[pairs]``.
        step: Names of the two values of each pair, in a fixed order, ``[pairs]``.
    """

    key: str
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    context: NDArray[np.int64]
    step: NDArray[np.str_]


def rank_measures(trials: Sequence[Trial], gap: str = "gap/loss") -> Ranking:
    """Return how well each number that runs end with ranks their gaps.

    - Kendall's tau-b over all runs, with a bootstrap interval over settings, each with all its runs.
    - Granulated Kendall: of each setting that varies, the mean of ``sign(gap difference) *
      sign(difference of the number)`` over the pairs of runs that differ in it alone (and in seed or
      split), averaged over the values of the others, then over settings.
    - Robust sign error: the same pairs by setting and pair of its values, each an environment: the
      largest share of wrong signs, ties of the number counting half, pairs of equal gaps not at all.
      All pairs count alike (the paper weights them by the noise of their gaps).

    Left out are the gap, training and validation losses and scores, and what is measured on
    validation rows.

    Args:
        trials: The runs, of one data set.
        gap: What is to be predicted.

    Raises:
        UserError: For fewer than ``LEAST_RUNS`` finished runs with the gap, one setting alone, equal
            gaps, and where nothing else was recorded.

    Source:
        Jiang et al. (2020), Fantastic generalization measures and where to find them; Dziugaite et
        al. (2020), In search of robust measures of generalization.
    """
    runs = [trial for trial in trials if trial.usable(gap)]
    names = sorted({name for trial in trials if trial.status == "FINISHED" for name in trial.metrics})
    if not runs and gap not in names and any(name.startswith("gap/") for name in names):
        raise UserError(f"no run has {gap}; {nearest(gap, [name for name in names if _is_gap(name)])}")
    if len(runs) < LEAST_RUNS:
        raise UserError(
            f"{plural(len(runs), 'finished run')} of {len(trials)} with {gap}: at least {LEAST_RUNS} are needed to "
            "rank measures by them, so give more sweeps or wait for this one"
        )
    settings = [setting_of(trial.params) for trial in runs]
    numbers = np.unique([str(sorted(each.items())) for each in settings], return_inverse=True)[1]
    if numbers.max() == 0:
        raise UserError(
            f"all {len(runs)} runs have one setting, so that only seeds or splits move their gaps: give sweeps over "
            "something, as in regularizer.l2.strength=1e-4,1e-3,1e-2"
        )
    gaps = _values(runs, gap)
    if (gaps == gaps[0]).all():
        raise UserError(f"{gap} is the same in all {len(runs)} runs: there is nothing to predict")
    candidates = [name for name in names if name.split("/")[0] not in _SIDES and not name.endswith(_ENDS)]
    left_out = tuple(name for name in candidates if _sees_validation(name))
    granules, level = list(_granules(settings)), runs[0].level
    ranked = []
    for name in candidates:
        values = _values(runs, name)
        has = np.isfinite(values)
        if name not in left_out and has.sum() >= LEAST_RUNS and len(np.unique(values[has])) > 1:
            ranked.append(_ranked(name, values, gaps, numbers, granules, level))
    if not ranked:
        raise UserError(
            "these runs record nothing beside losses and scores that could predict the gap: train with "
            "measure=full, or measure=[gap,weights,norms]"
        )
    ranked.sort(key=lambda each: (-abs(each.tau.mean if math.isnan(each.granulated) else each.granulated), each.name))
    lost = len(trials) - len(runs)
    return Ranking(gap, tuple(ranked), len(runs), int(numbers.max()) + 1, lost, left_out, level)


def kendall(first: Array, second: Array, counts: Array | None = None, groups: NDArray[np.int64] | None = None) -> Array:
    """Return Kendall's tau-b of two sequences ``[runs]``, of each of some samples of them.

    Args:
        first, second: ``[runs]``.
        counts: How often each run is in each sample, ``[samples, runs]``; None: one sample, each once.
        groups: Of runs that are drawn together, ``[runs]``: a copy of a group is not compared with
            another copy of it, which would count the pairs within groups more than others.

    Returns:
        ``[samples]``; NaN where one of the two does not vary.
    """
    one, other = (np.sign(each[:, None] - each[None, :]) for each in (first, second))
    counts = np.ones((1, len(first))) if counts is None else counts
    groups = np.arange(len(first)) if groups is None else groups
    within = groups[:, None] == groups[None, :]
    agreed, tied, untied = (
        ((counts @ (each * ~within)) * counts).sum(1) + counts @ (each * within).sum(1)
        for each in (one * other, abs(one), abs(other))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        taus: Array = agreed / np.sqrt(tied * untied)
    return taus


def _ranked(
    name: str,
    values: Array,
    gaps: Array,
    numbers: NDArray[np.int64],
    granules: Sequence[_Granule],
    level: float,
) -> Ranked:
    has = np.isfinite(values)
    tau = _with_interval(values[has], gaps[has], numbers[has], level)
    by_setting: dict[str, float] = {}
    environments: list[tuple[str, Array]] = []
    for granule in granules:
        kept = has[granule.first] & has[granule.second]
        first, second = granule.first[kept], granule.second[kept]
        if not len(first):
            continue
        wanted = np.sign(gaps[first] - gaps[second])
        agreed = wanted * np.sign(values[first] - values[second])
        context, step = granule.context[kept], granule.step[kept]
        by_setting[granule.key] = float(np.mean([agreed[context == each].mean() for each in np.unique(context)]))
        for each in np.unique(step):
            environments.append((f"{granule.key} {each}", agreed[(step == each) & (wanted != 0)]))
    found = Ranked(name, int(has.sum()), tau, by_setting)
    leaning = found.granulated or tau.mean
    direction = math.copysign(1.0, tau.mean if math.isnan(leaning) else leaning)
    errors = {each: float(np.mean(1 - direction * a) / 2) for each, a in environments if len(a) >= LEAST_PAIRS}
    if not errors:
        return found
    worst = max(errors, key=errors.__getitem__)
    return Ranked(name, found.runs, tau, by_setting, errors[worst], worst)


def _with_interval(values: Array, gaps: Array, numbers: NDArray[np.int64], level: float) -> Interval:
    """Return tau-b with the bootstrap's percentiles over settings."""
    tau = float(kendall(values, gaps)[0])
    present, own = np.unique(numbers, return_inverse=True)
    if len(present) < LEAST_RUNS:
        return Interval(tau, math.nan, math.nan)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(present), np.full(len(present), 1 / len(present)), _DRAWS)
    taus = kendall(values, gaps, drawn[:, own].astype(np.float64), own)
    taus = taus[np.isfinite(taus)]
    if not len(taus):
        return Interval(tau, math.nan, math.nan)
    low, high = np.quantile(taus, [(1 - level) / 2, (1 + level) / 2])
    return Interval(tau, float(low), float(high))


def _granules(settings: Sequence[Mapping[str, str]]) -> Iterator[_Granule]:
    """Yield the pairs that differ in one setting alone; settings that always move together are one."""
    keys = sorted({key for setting in settings for key in setting})
    together: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        seen: dict[str | None, int] = {}
        together.setdefault(tuple(seen.setdefault(each.get(key), len(seen)) for each in settings), []).append(key)
    varying = {found: group for found, group in together.items() if max(found)}
    for found, group in varying.items():
        others = [each for each in varying if each != found]
        contexts: dict[tuple[int, ...], list[int]] = {}
        for run in range(len(settings)):
            contexts.setdefault(tuple(each[run] for each in others), []).append(run)
        pairs = [
            (one, two, number) if found[one] < found[two] else (two, one, number)
            for number, members in enumerate(contexts.values())
            for place, one in enumerate(members)
            for two in members[place + 1 :]
            if found[one] != found[two]
        ]
        if pairs:
            first, second, context = np.array(pairs).T
            key = min(group, key=lambda each: (not each.endswith("strength"), len(each), each))
            values = [setting.get(key, "unset") for setting in settings]
            step = np.array([f"{values[one]} to {values[two]}" for one, two, _ in pairs])
            yield _Granule(key, first, second, context, step)


def _values(runs: Sequence[Trial], name: str) -> Array:
    return np.array([trial.metrics.get(name, math.nan) for trial in runs], dtype=np.float64)


def _is_gap(name: str) -> bool:
    return name.startswith("gap/") and not name.endswith(_ENDS)


def _sees_validation(name: str) -> bool:
    return any(word in _SEEN for word in name.replace("_", "/").split("/"))

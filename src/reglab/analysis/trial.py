"""``Trial``: a run of a sweep. ``Candidate``: a setting, with the runs that repeat it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reglab.analysis.estimate import Estimate, Interval, estimate, joint_interval
from reglab.core.metric_direction import bounds

# Runs that differ only in these repeat one setting.
REPEATED = ("seed", "data.split_seed", "data.fold")


@dataclass(frozen=True)
class Trial:
    """One run, with what the selection needs of it.

    Attributes:
        run_id: In MLflow.
        block: The label of the sweep block.
        regularizer: Names joined by ``+``; ``none`` for the empty cocktail.
        strength: The main number of its first regularizer.
        stronger: +1 if a larger strength regularizes more, -1 if a smaller one does.
        seed: Of the run.
        metrics: At the end of the run, e.g. ``val/loss``.
        params: The flattened config.
        status: FINISHED, FAILED, ...
        overrides: What this run was started with.
        message: Why it failed.
        directions: Config keys of numbers that regularize more the larger (+1) or the smaller (-1)
            they are; earlier versions recorded the main number's only.
        number: Of its job in the sweep, as text; empty if not recorded.
    """

    run_id: str
    block: str
    regularizer: str
    strength: float | None
    stronger: int
    seed: int | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    status: str
    overrides: tuple[str, ...] = ()
    message: str = ""
    directions: Mapping[str, int] = field(default_factory=dict)
    number: str = ""

    def repeat(self) -> tuple[str, ...]:
        """Return what distinguishes this run from others of its setting: seed, split seed, fold."""
        return (str(self.seed), *(self.params.get(key, "") for key in REPEATED[1:]))

    @property
    def split(self) -> tuple[str, ...]:
        """The run's validation split: split seed, fold."""
        return self.repeat()[1:]

    @property
    def within_split(self) -> tuple[str, ...]:
        """What distinguishes this run from others of its setting and split: seed, replica."""
        first_weights = self.params.get("init_seed", "")
        return str(self.seed), self.params.get("data.replica", ""), "" if first_weights == "null" else first_weights

    @property
    def job(self) -> str:
        """The run's job in its sweep; a second attempt at a job has the same."""
        return self.number or self.run_id

    @property
    def level(self) -> float:
        """The level of the run's intervals."""
        return float(self.params.get("measure.level", 0.95))

    def usable(self, monitor: str) -> bool:
        """Tell whether the run finished with a finite ``monitor``."""
        return self.status == "FINISHED" and math.isfinite(self.metrics.get(monitor, math.nan))


@dataclass(frozen=True)
class Candidate:
    """A setting that could be chosen, with the usable runs that repeat it.

    Attributes:
        block: The label of the sweep block.
        regularizer: Names joined by ``+``.
        strength: The one number that is swept in its block, or the first member's main number; None
            where several are swept.
        stronger: +1 if a larger strength regularizes more, -1 if a smaller one does.
        label: Block, strength and whatever else varies in the block.
        trials: The runs.
        settings: What else varies in the block, by config key.
        missing: How many of the sweep's repeats (seeds, splits) it has no result of.
        number: The name of ``strength`` where it is not the first member's main number.
        strengths: The swept numbers that are known to regularize more or less, by config key, each
            with the sign that makes larger stronger.
    """

    block: str
    regularizer: str
    strength: float | None
    stronger: int
    label: str
    trials: tuple[Trial, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    number: str = ""
    strengths: Mapping[str, float] = field(default_factory=dict)

    def at_least_as_strong(self, other: "Candidate") -> bool:
        """Tell whether it regularizes at least as much as ``other`` (Pareto order).

        Every swept number is at least as strong, and what else varies in the block is the same.
        """
        other_settings = [{k: v for k, v in c.settings.items() if k not in c.strengths} for c in (self, other)]
        return (
            self.block == other.block
            and other_settings[0] == other_settings[1]
            and self.strengths.keys() == other.strengths.keys()
            and all(value >= other.strengths[key] for key, value in self.strengths.items())
        )

    def has(self, key: str) -> bool:
        """Tell whether every run has a finite value of the metric ``key``."""
        return all(math.isfinite(trial.metrics.get(key, math.nan)) for trial in self.trials)

    def values(self, key: str) -> list[float]:
        """Return the metric of each run, empty where a run lacks it."""
        return [trial.metrics[key] for trial in self.trials] if self.has(key) else []

    def mean(self, key: str) -> float:
        """Return the metric's mean over runs, splits weighted equally; NaN where a run lacks it."""
        return estimate(self.values(key), splits=self.splits).mean if self.has(key) else math.nan

    def estimate(self, key: str) -> Estimate:
        """Return the metric with its standard error; ``<key>_se``: example noise, if logged."""
        found = estimate(self.values(key), self.values(f"{key}_se"), self.splits)
        return found if len(self.trials) > 1 or not self.without_rows(key) else replace(found, error=math.nan)

    def without_rows(self, key: str) -> bool:
        """Tell whether the metric ``key`` has no value for each row, and so no error over them."""
        return any(math.isnan(trial.metrics.get(f"{key}_se", 0.0)) for trial in self.trials)

    def interval(self, key: str) -> Interval:
        """Return the metric with the joint interval of ``<key>_low`` and ``<key>_high``, cut to the values
        that the metric can have: a mean over few seeds has Student's wide interval, which knows no
        bounds.
        """
        if not self.has(key):
            return Interval(math.nan, math.nan, math.nan)
        lows, highs = self.values(f"{key}_low"), self.values(f"{key}_high")
        found = joint_interval(self.values(key), lows, highs, self.splits, self.trials[0].level)
        least, most = bounds(key)
        return Interval(found.mean, max(found.low, least), min(found.high, most))

    @property
    def splits(self) -> list[tuple[str, ...]]:
        """The split of each run."""
        return [trial.split for trial in self.trials]

    @property
    def zeros(self) -> float:
        """Share of the weights that is exactly zero, mean over runs; NaN if unknown."""
        return self.mean("weights/zeros")

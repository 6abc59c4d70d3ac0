"""Data of a sweep report: runs, metric histories, weights, per-example results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.per_example_file import Examples
from reglab.analysis.rules import DEFAULT, Rule
from reglab.analysis.selection import Choice, select
from reglab.analysis.table_report import TableReport
from reglab.analysis.trial import Candidate, Trial

# Of one run: metric name -> [(epoch, value), ...].
History = Mapping[str, Sequence[tuple[int, float]]]
Weights = NDArray[np.floating[Any]]


def no_outputs(run_ids: Sequence[str]) -> Mapping[str, Examples]:
    """Return nothing, for no run."""
    return {}


@dataclass(frozen=True)
class SweepData:
    """One sweep's runs with everything that its report shows.

    Attributes:
        name: Of the sweep.
        trials: Its runs.
        score: The task's score, e.g. ``accuracy``.
        monitor: The metric that decides.
        jobs: How many the sweep has; None if not recorded.
        earlier_test_uses: Which runs saw the test set before the sweep; empty if none.
        provenance: Name -> value lines for "how to reproduce" (git commit, data digest, versions,
            ...).
        command: What started the sweep; empty if not recorded.
        histories: Run id -> metrics over epochs, of the runs that are drawn.
        weights: Candidate label -> its weights as one flat array, for the histograms.
        results: Run id -> per-example results, of the runs that have them.
        rule: How the sweep chooses.
        changed_data: Which runs saw other data than others of the same options; empty if none.
        tables: Reports of its tables; empty for other data, and for sweeps of earlier versions.
        task: Of the data; empty if not recorded.
        charts: Patterns of more metrics to draw against strength, by their names in ``Trial.metrics``.
        outputs: Reads the per-example results with the models' outputs, of runs by their ids.
    """

    name: str
    trials: tuple[Trial, ...]
    score: str = "accuracy"
    monitor: str = "val/loss"
    jobs: int | None = None
    earlier_test_uses: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    histories: Mapping[str, History] = field(default_factory=dict)
    weights: Mapping[str, Weights] = field(default_factory=dict)
    results: Mapping[str, Examples] = field(default_factory=dict)
    rule: Rule = DEFAULT
    changed_data: str = ""
    tables: tuple[TableReport, ...] = ()
    task: str = ""
    charts: tuple[str, ...] = ()
    outputs: Callable[[Sequence[str]], Mapping[str, Examples]] = no_outputs

    def choose(self) -> Choice:
        """Return the choice among the runs. Raises ``UserError`` if none of them has a result."""
        return select(self.trials, self.monitor, self.jobs, self.results, self.rule)

    @property
    def level(self) -> str:
        """The level of the runs' intervals, e.g. ``95%``."""
        return f"{100 * self.trials[0].level:g}%"


@dataclass(frozen=True)
class Curve:
    """A metric over epochs: mean, lowest and highest run; arrays of shape [epochs]."""

    epochs: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curve(candidate: Candidate, histories: Mapping[str, History], key: str, points: int = 160) -> Curve | None:
    """Return a metric's curve over the epochs that all runs of a candidate reached.

    Past the first run's end the mean would be one of fewer runs and jump.

    Args:
        candidate: The setting.
        histories: By run id.
        key: Of the metric.
        points: The most epochs to keep, evenly spaced, with the first and the last.

    Returns:
        The curve; None if there is none.
    """
    runs = [dict(histories.get(trial.run_id, {}).get(key, ())) for trial in candidate.trials]
    epochs = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    if not epochs:
        return None
    kept = np.unique(np.linspace(0, len(epochs) - 1, min(points, len(epochs))).round().astype(int))
    steps = np.array(epochs)[kept]
    values = np.array([[run[int(step)] for step in steps] for run in runs], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan  # a gap in the line
    return Curve(steps, values.mean(0), values.min(0), values.max(0))

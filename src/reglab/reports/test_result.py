"""Test set results of the chosen setting, with a warning if the test set was used before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import listing, metric_name, number, plural
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData


@dataclass(frozen=True)
class MetricOnTest:
    """A metric on the test set.

    Attributes:
        interval: Mean over runs, with an interval over examples and seeds.
        lowest: Of the runs.
        highest: Of the runs.
    """

    interval: Interval
    lowest: float
    highest: float

    def text(self) -> str:
        """Return the mean with its interval, or the runs' range if none was recorded."""
        mean, low, high = (number(end) for end in (self.interval.mean, self.interval.low, self.interval.high))
        if not math.isnan(self.interval.low):
            return f"{mean} [{low}, {high}]"
        runs = f" (runs: {number(self.lowest)} to {number(self.highest)})" if self.lowest < self.highest else ""
        return mean + runs


@dataclass(frozen=True)
class ResultOnTest:
    """The chosen setting's results on the test set.

    Attributes:
        label: Of the setting.
        metrics: By name.
        runs: How many there are.
        others: Settings whose test results are known too.
        earlier_test_uses: Which runs saw the test set before the sweep; empty if none.
        splits: How many splits the sweep has, each with a test part of its own.
        level: Of the intervals.
    """

    label: str
    metrics: Mapping[str, MetricOnTest]
    runs: int
    others: tuple[str, ...]
    earlier_test_uses: str = ""
    splits: int = 1
    level: str = "95%"

    @property
    def sentence(self) -> str:
        """The result in a sentence, with a warning if the test set was used before."""
        metrics_text = "; ".join(f"{metric_name(key)} {result.text()}" for key, result in self.metrics.items())
        intervals = any(not math.isnan(result.interval.low) for result in self.metrics.values())
        over = "examples and seeds" if self.runs > 1 else "examples"
        explained = f" ({self.level} intervals over {over})" if intervals else ""
        touched = "" if self.earlier_test_uses or self.others or self.splits > 1 else "touched once for "
        text = f"On the test set, {touched}{self.label} ({plural(self.runs, 'run')}): {metrics_text}{explained}."
        if self.splits > 1:
            text += (
                f" Each of the {self.splits} values of data.split_seed has a test part of its own, whose rows are "
                "training or validation rows under the others, so this result is not untouched evidence."
            )
        if self.earlier_test_uses:
            text += (
                f" This test set was looked at before: {self.earlier_test_uses}, so this result is no longer untouched "
                "evidence."
            )
        if self.others:
            text += f" It had been touched before, for {', '.join(self.others)}: this result is no longer unbiased."
        return text


def result_on_test(
    data: SweepData, choice: Choice, test: Mapping[str, Mapping[str, float]] | None
) -> ResultOnTest | None:
    """Return the chosen setting's test result; None if none of its runs has one.

    Args:
        data: Of the sweep.
        choice: The choice.
        test: Run id -> metrics: new results, which override those of the runs.
    """
    new = test or {}
    chosen = replace(
        choice.chosen,
        trials=tuple(
            replace(trial, metrics={**trial.metrics, **new.get(trial.run_id, {})}) for trial in choice.chosen.trials
        ),
    )
    keys = [key for key in (f"test/{data.score}", "test/loss") if chosen.has(key)]
    if not keys:
        return None
    metrics = {
        key: MetricOnTest(chosen.interval(key), min(chosen.values(key)), max(chosen.values(key))) for key in keys
    }
    others = tuple(c.label for c in choice.candidates if c is not choice.chosen and _has_test_metrics(c))
    splits = {trial.params.get("data.split_seed") for c in choice.candidates for trial in c.trials}
    return ResultOnTest(
        chosen.label, metrics, len(chosen.trials), others, data.earlier_test_uses, len(splits), data.level
    )


def describe_runs(origins: Sequence[str]) -> str:
    """Return the number of runs and their sweeps: ``3 runs of a and b``; empty without any.

    Args:
        origins: The name of each run's sweep, or its own.
    """
    return f"{plural(len(origins), 'run')} of {listing(list(dict.fromkeys(origins)))}" if origins else ""


def _has_test_metrics(candidate: Candidate) -> bool:
    return any(key.startswith("test/") for trial in candidate.trials for key in trial.metrics)

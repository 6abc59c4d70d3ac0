"""The test set's say: what the chosen setting reached on it, and who touched it before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import listing, metric_name, number, plural
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData


@dataclass(frozen=True)
class MetricOnTest:
    """A metric on the test set: its mean over runs, with an interval over examples and seeds, and the runs' range."""

    interval: Interval
    lowest: float
    highest: float

    def text(self) -> str:
        """Return the result in words; without an interval, which earlier versions did not record, the runs' range."""
        mean, low, high = (number(end) for end in (self.interval.mean, self.interval.low, self.interval.high))
        if not math.isnan(self.interval.low):
            return f"{mean} [{low}, {high}]"
        runs = f" (runs: {number(self.lowest)} to {number(self.highest)})" if self.lowest < self.highest else ""
        return mean + runs


@dataclass(frozen=True)
class ResultOnTest:
    """What the chosen setting reached on the test set.

    metrics: by name. level: of their intervals. others: settings whose test results are known too. splits: how many
    splits the sweep has, each with a test part of its own. looked: who had seen the test set before the sweep, empty if
    nobody.
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
        """The result in one sentence, and a warning if the test set had been used for other settings."""
        found = "; ".join(f"{metric_name(key)} {result.text()}" for key, result in self.metrics.items())
        intervals = any(not math.isnan(result.interval.low) for result in self.metrics.values())
        over = "examples and seeds" if self.runs > 1 else "examples"
        explained = f" ({self.level} intervals over {over})" if intervals else ""
        touched = "" if self.earlier_test_uses or self.others or self.splits > 1 else "touched once for "
        text = f"On the test set, {touched}{self.label} ({plural(self.runs, 'run')}): {found}{explained}."
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
    """Return the chosen setting's test result, mean over its runs; None if none of its runs has one.

    test: run id -> metrics, new results that MLflow need not hold yet; they go before those that the runs hold.
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
    """Return who looked at the test set, from the name of each run's sweep or its own: ``3 runs of a and b``."""
    return f"{plural(len(origins), 'run')} of {listing(list(dict.fromkeys(origins)))}" if origins else ""


def _has_test_metrics(candidate: Candidate) -> bool:
    return any(key.startswith("test/") for trial in candidate.trials for key in trial.metrics)

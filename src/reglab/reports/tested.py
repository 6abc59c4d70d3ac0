"""The test set's say: what the chosen setting reached on it, and who touched it before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reglab.reports.data import SweepData
from reglab.sweeps.selection import Candidate, Choice
from reglab.sweeps.words import listing, metric_name, number, plural


@dataclass(frozen=True)
class Tested:
    """metrics: name -> (mean, lowest, highest) over runs. others: settings whose test results are known too.

    looked: who had seen the test set before the sweep, empty if nobody.
    """

    label: str
    metrics: Mapping[str, tuple[float, float, float]]
    runs: int
    others: tuple[str, ...]
    looked: str = ""

    @property
    def sentence(self) -> str:
        """The result in one sentence, and a warning if the test set had been used for other settings."""
        found = "; ".join(
            f"{metric_name(key)} {number(mean)}" + (f" (runs: {number(low)} to {number(high)})" if low < high else "")
            for key, (mean, low, high) in self.metrics.items()
        )
        touched = "" if self.looked else "touched once for "
        text = f"On the test set, {touched}{self.label} ({plural(self.runs, 'run')}): {found}."
        if self.looked:
            text += (
                f" This test set was looked at before: {self.looked}, so this result is no longer untouched evidence."
            )
        if self.others:
            text += f" It had been touched before, for {', '.join(self.others)}: this result is no longer unbiased."
        return text


def tested(data: SweepData, choice: Choice, test: Mapping[str, Mapping[str, float]] | None) -> Tested | None:
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
    metrics = {key: (chosen.mean(key), min(chosen.values(key)), max(chosen.values(key))) for key in keys}
    others = tuple(c.label for c in choice.candidates if c is not choice.chosen and _touched(c))
    return Tested(chosen.label, metrics, len(chosen.trials), others, data.looked)


def looks(origins: Sequence[str]) -> str:
    """Return who looked at the test set, from the name of each run's sweep or its own: ``3 runs of a and b``."""
    return f"{plural(len(origins), 'run')} of {listing(list(dict.fromkeys(origins)))}" if origins else ""


def _touched(candidate: Candidate) -> bool:
    return any(key.startswith("test/") for trial in candidate.trials for key in trial.metrics)

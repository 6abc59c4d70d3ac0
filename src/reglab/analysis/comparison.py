"""Paired comparisons between the settings of a sweep, from per-example results."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from reglab.analysis.claims import Claim, claim, optimism
from reglab.analysis.paired import Difference, Scored, Splits, difference, over_rows
from reglab.analysis.per_example_file import Examples
from reglab.analysis.scored import Reader, constant, gap, reader_of, val
from reglab.analysis.trial import Candidate, Trial
from reglab.core.metric_direction import lower_is_better


class Comparison:
    """Paired comparisons between the settings of a sweep.

    Every answer is None where a run has no per-example results (earlier versions wrote none), or
    where the monitor cannot be computed from them.

    Args:
        results: By run id.
        monitor: The metric that is compared, such as ``val/loss``.
        decided: The metric that decided in the runs; None: the monitor.
    """

    def __init__(self, results: Mapping[str, Examples], monitor: str, decided: str | None = None) -> None:
        self.monitor = monitor
        self._decided = decided or monitor
        self._results = results
        self._sign = 1.0 if lower_is_better(monitor) else -1.0
        self._reader = reader_of(monitor, self._decided)
        self._splits_cache: dict[tuple[str, ...], Splits | None] = {}
        self._others: dict[str, Comparison] = {monitor: self}

    def on(self, metric: str) -> "Comparison":
        """Return the same comparison by another metric."""
        if metric not in self._others:
            self._others[metric] = Comparison(self._results, metric, self._decided)
        return self._others[metric]

    def has(self, candidates: Iterable[Candidate]) -> bool:
        """Tell whether all of them can be compared with each other."""
        splits = [self._splits(candidate) for candidate in candidates]
        return all(one is not None and difference(one, splits[0] or {}) is not None for one in splits)

    def has_examples(self, candidates: Iterable[Candidate]) -> bool:
        """Tell whether all their runs have per-example results."""
        return all(trial.run_id in self._results for candidate in candidates for trial in candidate.trials)

    def difference(self, first: Candidate, second: Candidate) -> Difference | None:
        """Return the paired difference in the monitor, below 0 where ``first`` is better."""
        a, b = self._splits(first), self._splits(second)
        return None if a is None or b is None else difference(a, b)

    def gap(self, first: Candidate, second: Candidate) -> Difference | None:
        """Return the gap in loss of ``first`` minus that of ``second``."""
        a, b = self._read(first, gap), self._read(second, gap)
        return None if a is None or b is None else difference(a, b)

    def constant(self, candidate: Candidate) -> Difference | None:
        """Return the monitor of ``candidate`` minus the constant predictor's, error over rows."""
        reader, splits = self._reader, self._splits(candidate)
        if splits is None:
            return None
        constant_splits = self._read(candidate, lambda results: _constant(reader, results))
        return None if constant_splits is None else over_rows(splits, constant_splits)

    def claim(self, candidates: Sequence[Candidate], baseline: Candidate) -> Claim | None:
        """Return the joint claim that ``candidates`` beat ``baseline``; see ``claims.claim``."""
        baseline_splits, splits = self._splits(baseline), [self._splits(candidate) for candidate in candidates]
        available = [one for one in splits if one is not None]
        return (
            claim(available, baseline_splits) if baseline_splits is not None and len(available) == len(splits) else None
        )

    def optimism(self, candidates: Sequence[Candidate]) -> float | None:
        """Return the winner's curse of the best among ``candidates``; see ``claims.optimism``."""
        splits = [self._splits(candidate) for candidate in candidates]
        available = [one for one in splits if one is not None]
        return optimism(available) if len(available) == len(splits) else None

    def constant_value(self, candidate: Candidate, metric: str) -> float | None:
        """Return the constant predictor's metric on the validation rows of ``candidate``."""
        reader = reader_of(metric, self._decided)
        splits = self._read(candidate, lambda results: _constant(reader, results))
        if not splits:
            return None
        sign = 1 if lower_is_better(metric) else -1
        return sign * float(np.mean([one.values.mean() for one in splits.values()]))

    def train_rows(self, candidate: Candidate) -> int | None:
        """Return the number of training rows of a setting's first run; None if not recorded."""
        results = self._results.get(candidate.trials[0].run_id)
        return None if results is None or results.train_rows is None else int(results.train_rows)

    def _splits(self, candidate: Candidate) -> Splits | None:
        key = tuple(trial.run_id for trial in candidate.trials)
        if key not in self._splits_cache:
            reader = self._reader
            self._splits_cache[key] = self._read(candidate, lambda one: reader(val(one)))
        return self._splits_cache[key]

    def _read(self, candidate: Candidate, reader: Callable[[Examples], Scored | None]) -> Splits | None:
        groups: dict[Hashable, list[Scored]] = {}
        for trial in candidate.trials:
            results = self._results.get(trial.run_id)
            one = None if results is None else reader(results)
            if one is None:
                return None
            groups.setdefault(trial.split, []).append(_named(trial, one))
        if any(not np.array_equal(one.rows, group[0].rows) for group in groups.values() for one in group):
            return None
        return {split: _joined(group) for split, group in groups.items()}


def _constant(reader: Reader, results: Examples) -> Scored | None:
    side = constant(results)
    return None if side is None else reader(side)


def _named(trial: Trial, one: Scored) -> Scored:
    return Scored((trial.within_split,), one.rows, one.values, one.noise, one.unit_variance)


def _joined(group: Sequence[Scored]) -> Scored:
    """Return the runs of one split as one ``Scored``."""
    return Scored(
        tuple(repeat for one in group for repeat in one.repeats),
        group[0].rows,
        np.concatenate([one.values for one in group]),
        np.concatenate([one.noise for one in group]),
        group[0].unit_variance,
    )

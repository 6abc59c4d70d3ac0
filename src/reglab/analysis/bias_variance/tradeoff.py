"""Bias and variance of all settings of a sweep, and what a regularizer trades against which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reglab.analysis.bias_variance.decompose import (
    BIAS,
    BIAS_NOISE,
    RISK,
    VARIANCE,
    Decomposition,
    Parts,
    decompose,
    estimates_of,
)
from reglab.analysis.bias_variance.intervals import Number, numbers
from reglab.analysis.bias_variance.predictions import Predictions, predictions
from reglab.analysis.per_example_file import Examples
from reglab.analysis.selection import Choice
from reglab.analysis.trial import Candidate
from reglab.core.errors import UserError

RESAMPLE = "data.resample"
# Run ids -> their per-example results, with outputs.
Reader = Callable[[Sequence[str]], Mapping[str, Examples]]


@dataclass(frozen=True)
class Tradeoff:
    """A regularizer's setting of least risk, against no regularizer on the same rows and samples.

    Attributes:
        best: The setting.
        against: What it is compared with.
        differences: Of ``risk``, ``variance`` and bias, below 0 where ``best`` has less.
        inside: Whether the setting is neither the weakest nor the strongest of its block; None where
            that has one setting, or several numbers are swept.
    """

    best: Candidate
    against: Candidate
    differences: Mapping[str, Number]
    inside: bool | None


@dataclass(frozen=True)
class BiasVariance:
    """Bias and variance of a sweep's settings.

    Attributes:
        settings: Each with its parts, in the order of the sweep.
        tradeoffs: One for each regularizer, where they can be compared.
        left_out: Why settings have no decomposition, a sentence each.
        resample: How training samples were drawn: ``bootstrap``, ``disjoint``, or both.
        level: Of the intervals.
    """

    settings: tuple[tuple[Candidate, Decomposition], ...]
    tradeoffs: tuple[Tradeoff, ...]
    left_out: tuple[str, ...]
    resample: str
    level: float

    @property
    def noise_known(self) -> bool:
        """Whether noise stands apart from bias^2."""
        return all(parts.main.noise_known for _, parts in self.settings)

    @property
    def scope(self) -> str:
        """What the variance speaks of, in a sentence."""
        if self.resample not in ("bootstrap", "disjoint"):
            return "Variance over bootstrap samples of one training part, or over disjoint ones: see each setting."
        if self.resample == "disjoint":
            return "Variance over disjoint training samples: what another sample of that size would change."
        return (
            "Variance over bootstrap samples of one training part, given that part: rather less than what a fresh "
            "sample of that size would change (data.resample=disjoint)."
        )


def has_replicas(choice: Choice) -> bool:
    """Tell whether runs of the choice were trained on resampled training parts."""
    return any(_resampled(trial.params) for candidate in choice.candidates for trial in candidate.trials)


def _resampled(params: Mapping[str, str]) -> bool:
    return params.get("data.replicas", "null") not in ("null", "None", "")


def bias_variance(choice: Choice, read: Reader, task: str, level: float = 0.95) -> BiasVariance:
    """Return bias, variance and noise of every setting.

    Args:
        choice: With the settings.
        read: Reads outputs, of one setting's runs at a time.
        task: Of the data.
        level: Of the intervals.
    """
    settings: list[tuple[Candidate, Decomposition]] = []
    left_out: list[str] = []
    for candidate in choice.candidates:
        try:
            settings.append((candidate, decompose(_answers(candidate, read, task), level)))
        except UserError as error:
            left_out.append(str(error))
    found = {candidate.label: parts for candidate, parts in settings}
    traded = [
        _tradeoff([c for c, _ in settings if c.block == block], choice.baseline, found, read, task, level)
        for block in dict.fromkeys(candidate.block for candidate, _ in settings)
    ]
    tradeoffs = [each for each in traded if isinstance(each, Tradeoff)]
    left_out += [each for each in traded if isinstance(each, str)]
    params = [trial.params for candidate in choice.candidates for trial in candidate.trials]
    resample = " and ".join(sorted({each[RESAMPLE] for each in params if RESAMPLE in each})) or "bootstrap"
    return BiasVariance(tuple(settings), tuple(tradeoffs), tuple(dict.fromkeys(left_out)), resample, level)


def _answers(candidate: Candidate, read: Reader, task: str) -> Predictions:
    return predictions(candidate, read([trial.run_id for trial in candidate.trials]), task)


def _tradeoff(
    block: Sequence[Candidate],
    baseline: Candidate | None,
    found: Mapping[str, Decomposition],
    read: Reader,
    task: str,
    level: float,
) -> Tradeoff | str | None:
    """Return what the block's best setting trades, or why that is not known; None without a baseline."""
    if baseline is None or baseline.label not in found or block[0].regularizer == baseline.regularizer:
        return None
    best = min(block, key=lambda c: found[c.label].main.numbers[RISK].value)
    one, other = _answers(best, read, task), _answers(baseline, read, task)
    same = all(_drawn(best, key) == _drawn(baseline, key) for key in ("data.replicas", RESAMPLE))
    if not same or one.levels != other.levels or not np.array_equal(one.index, other.index):
        return f"{best.label} is not compared with {baseline.label}: they were not trained on the same samples."
    differences = numbers(estimates_of(one).minus(estimates_of(other)), one.factors, one.weights, level)
    kept = {key: differences[key] for key in (RISK, VARIANCE, BIAS, BIAS_NOISE) if key in differences}
    strengths = sorted({c.strength for c in block if c.strength is not None})
    one_number = len(strengths) == len(block) > 1
    inside = best.strength not in (strengths[0], strengths[-1]) if one_number else None
    return Tradeoff(best, baseline, kept, inside)


def _drawn(candidate: Candidate, key: str) -> set[str]:
    return {trial.params.get(key, "") for trial in candidate.trials}


def bias_name(parts: Parts) -> str:
    """Return what the first part is called: ``bias²``, with noise where that is not known."""
    bias = "bias" if parts.loss == "cross-entropy" else "bias²"
    return bias if parts.noise_known else f"{bias} + noise"

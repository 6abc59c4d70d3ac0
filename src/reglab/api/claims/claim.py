"""``Claim``: a question about regularization, how it is looked into, and what decides it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from reglab.analysis.estimate import Interval, joint_interval
from reglab.analysis.formatting import number, percent
from reglab.api.claims.trainings import Floats, Setup, Trainings

Verdict = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True)
class Number:
    """What a claim says of one quantity, measured once in each repetition.

    Attributes:
        name: Of the quantity.
        values: ``[repetitions]``.
        limit: The claim needs the mean beyond it: what is less counts as no effect.
        at_most: The claim needs it below ``limit``, not above.
        percent: It is a share.
    """

    name: str
    values: tuple[float, ...]
    limit: float = 0.0
    at_most: bool = False
    percent: bool = False

    @property
    def interval(self) -> Interval:
        """The mean with its 95% interval (Student's t over repetitions)."""
        each = range(len(self.values))
        return joint_interval(self.values, self.values, self.values, each)

    @property
    def verdict(self) -> Verdict:
        """Supported where the whole interval is beyond the limit, not supported where none of it is."""
        low, high = self.interval.low, self.interval.high
        if self.at_most:
            low, high = 2 * self.limit - high, 2 * self.limit - low
        return "supported" if low > self.limit else "not supported" if high <= self.limit else "undecided"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, mean with interval, what the claim needs, and the verdict, as text."""
        form = percent if self.percent else number
        found = self.interval
        needed = f"{'below' if self.at_most else 'above'} {form(self.limit)}"
        between = f"{_signed(form, found.mean)} [{_signed(form, found.low)}, {_signed(form, found.high)}]"
        return self.name, between, needed, self.verdict


@dataclass(frozen=True)
class Line:
    """Values against strength, of one kind of training.

    Attributes:
        name: In the legend.
        values: ``[repetitions][settings]``.
    """

    name: str
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a claim's figure.

    Attributes:
        title: Of the panel.
        settings: Labels of the x-axis, the weakest first.
        lines: A value for each of these.
        percent: The values are shares.
    """

    title: str
    settings: tuple[str, ...]
    lines: tuple[Line, ...]
    percent: bool = False


@dataclass(frozen=True)
class Found:
    """What the trainings say of a claim.

    Attributes:
        numbers: All of which the claim needs.
        panels: Of its figure.
    """

    numbers: tuple[Number, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        name: On the command line.
        question: That it answers.
        method: What is trained and measured, in a few sentences.
        setup: Of the trainings.
        judge: Returns what these say.
        counterexample: The same in words, where the claim cannot hold.
        counter: What it changes in ``setup``.
        source: Where the claim comes from.
    """

    name: str
    question: str
    method: str
    setup: Setup
    judge: Callable[[Trainings], Found]
    counterexample: str
    counter: Mapping[str, Any]
    source: str

    @property
    def countered(self) -> "Claim":
        """The claim on its counter-example."""
        changed = dict(self.counter)
        data = {**self.setup.data, **changed.pop("data", {})}
        return replace(self, setup=replace(self.setup, data=data, **changed))


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Attributes:
        claim: What was asked.
        found: What the trainings say.
        repetitions: Of the whole experiment, with data and weights drawn anew.
        trained: Number of networks.
        diverged: How many of them diverged; the claim is then undecided.
        on_counterexample: Whether the data were those of the counter-example.
    """

    claim: Claim
    found: Found
    repetitions: int
    trained: int
    diverged: int
    on_counterexample: bool

    @property
    def verdict(self) -> Verdict:
        """Supported where each number is; not supported where one is not.

        Each interval has 95% of its own: that all of them lie beyond their limits by chance has a
        chance of 2.5% at the most where the claim is false (Berger 1982, intersection-union test).
        """
        if self.diverged:
            return "undecided"
        each = [number.verdict for number in self.found.numbers]
        if "not supported" in each:
            return "not supported"
        return "undecided" if "undecided" in each else "supported"

    @property
    def label(self) -> str:
        """The verdict as readers see it."""
        return "undecided at this size" if self.verdict == "undecided" else self.verdict


def chosen_values(values: Sequence[Sequence[float]] | Floats, chosen: Sequence[int]) -> tuple[float, ...]:
    """Return each repetition's value at the setting that was chosen in it.

    Args:
        values: ``[repetitions][settings]``.
        chosen: ``[repetitions]``.

    Example:
        >>> chosen_values([[1.0, 2.0], [3.0, 4.0]], [0, 1])
        (1.0, 4.0)
    """
    return tuple(float(row[index]) for row, index in zip(values, chosen, strict=True))


def lines(**values: Floats) -> tuple[Line, ...]:
    """Return lines by their names, with blanks for underscores.

    Args:
        values: ``[repetitions, settings]`` of each.
    """
    return tuple(Line(name.replace("_", " "), tuple(map(tuple, each.tolist()))) for name, each in values.items())


def best_of_others(values: Sequence[Sequence[float]]) -> list[int]:
    """Return for each repetition the setting with the lowest mean over all others.

    So that no setting is chosen by the numbers that it is then judged by.

    Args:
        values: ``[repetitions][settings]``.

    Example:
        >>> best_of_others([[0.0, 5.0], [3.0, 2.0], [3.0, 2.0]])
        [1, 0, 0]
    """
    best = []
    for left_out in range(len(values)):
        others = [row for index, row in enumerate(values) if index != left_out]
        means = [fmean(column) for column in zip(*others, strict=True)]
        best.append(means.index(min(means)))
    return best


def _signed(form: Callable[[float], str], value: float) -> str:
    return f"-{form(-value)}" if value < 0 else form(value)

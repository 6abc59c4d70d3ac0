"""The verdict of a sweep in words: what helped, how sure that is, and what to be wary of."""

from collections.abc import Iterator
from dataclasses import dataclass

from reglab.sweeps.cautions import cautions
from reglab.sweeps.selection import Candidate, Choice
from reglab.sweeps.words import bracket, metric_name, number, plural, spread


@dataclass(frozen=True)
class Verdict:
    """The answer in one or two sentences, then what qualifies it, one sentence or two each."""

    headline: str
    details: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict as plain text: the headline, then one detail a line."""
        return "\n".join([self.headline, *(f"- {detail}" for detail in self.details)])


def verdict(choice: Choice, score: str) -> Verdict:
    """Return the verdict on a choice. ``score``: the task's score, e.g. ``accuracy`` for ``val/accuracy``."""
    return Verdict(_headline(choice, score), (*_rule(choice), *cautions(choice, score)))


def _headline(choice: Choice, score: str) -> str:
    base, monitor = choice.baseline, choice.monitor
    if len({(candidate.regularizer, candidate.strength) for candidate in choice.candidates}) == 1:
        return _plain(choice)
    if base is None:
        return (
            f"{choice.chosen.label} is the choice: {_state(choice.chosen, score)}. The sweep has no run without a "
            "regularizer, so it cannot say whether regularization helps: add regularizer=[] to it."
        )
    if choice.best.regularizer == "none":
        return (
            f"No regularizer beat training without one: {metric_name(monitor)} is {_estimate(base, monitor)} "
            f"without, and {_rival(choice)}."
        )
    if choice.within(base):
        return (
            f"No clear evidence that regularization helps here: without it, {metric_name(monitor)} is "
            f"{number(base.mean(monitor))}, within one standard error ({number(choice.error)}) of the best, "
            f"{number(choice.best.mean(monitor))} ({choice.best.label}). {_sentence(choice, base, score)}."
        )
    return f"{_sentence(choice, base, score)}."


def _plain(choice: Choice) -> str:
    """Return the headline of a sweep over something else than regularizers, or of a single setting."""
    best, monitor = choice.best, choice.monitor
    estimate = f"{metric_name(monitor)} {_estimate(best, monitor)}"
    others = [c for c in choice.candidates if c is not best]
    if not others:
        return f"{best.label}: {estimate}."
    near = sum(choice.within(other) for other in others)
    verb = "is" if near == 1 else "are"
    told = f"{near} of the {len(others)} others {verb}" if near else "No other setting is"
    return f"{best.label} is best: {estimate}. {told} within one standard error of it."


def _rival(choice: Choice) -> str:
    rivals = [c for c in choice.candidates if c.regularizer != "none"]
    rival = min(rivals, key=choice.loss)
    return f"{_estimate(rival, choice.monitor)} with the best of them, {rival.label}"


def _estimate(candidate: Candidate, key: str) -> str:
    estimate = candidate.estimate(key)
    return spread(estimate.mean, estimate.error)


def _state(candidate: Candidate, score: str) -> str:
    return (
        f"gap in loss {bracket(candidate.interval('gap/loss'))}, "
        f"{metric_name(f'val/{score}')} {number(candidate.mean(f'val/{score}'))}"
    )


def _sentence(choice: Choice, base: Candidate, score: str) -> str:
    """Return what the chosen one did to gap, score and validation loss against the baseline."""
    chosen = choice.chosen
    before, after = base.interval("gap/loss"), chosen.interval("gap/loss")
    verb = "cuts" if after.mean < before.mean else "does not cut"
    moves = [
        _move(base.mean(key), chosen.mean(key), metric_name(key))
        for key in (f"val/{score}", "val/loss")
        if base.has(key) and chosen.has(key)
    ]
    runs = plural(len(chosen.trials), "run") + (" each" if len(chosen.trials) == len(base.trials) else "")
    gap = f"{chosen.label} {verb} the gap in loss from {bracket(before)} to {bracket(after)} ({runs})"
    moved = " and ".join(moves)
    return f"{gap}. {moved[:1].upper()}{moved[1:]}" if moves else gap


def _move(before: float, after: float, name: str) -> str:
    if number(before) == number(after):
        return f"{name} stays at {number(after)}"
    return f"{name} {'rises' if after > before else 'falls'} from {number(before)} to {number(after)}"


def _rule(choice: Choice) -> Iterator[str]:
    """Say why the chosen one is chosen, where it is not simply the best."""
    best, chosen = choice.best, choice.chosen
    if best is chosen or best.strength is None:
        return
    yield (
        f"{best.label} has the best {metric_name(choice.monitor)}, {_estimate(best, choice.monitor)}; "
        f"{chosen.label} ({number(chosen.mean(choice.monitor))}) is the strongest {chosen.block} within one standard "
        "error of it, hence the choice."
    )

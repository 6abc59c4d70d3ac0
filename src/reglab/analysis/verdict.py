"""The verdict of a sweep as text: what helped, how sure that is, and warnings."""

from dataclasses import dataclass

from reglab.analysis.evidence import LEVEL, evidence, no_better_than_constant, unpaired
from reglab.analysis.formatting import bracket, metric_name, number, plural, spread
from reglab.analysis.learning_rate import learning_rates
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.warnings import warning_sentences


@dataclass(frozen=True)
class Verdict:
    """The verdict as sentences.

    Attributes:
        headline: The answer, in one or two sentences.
        details: What qualifies it, one or two sentences each.
    """

    headline: str
    details: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict as plain text: the headline, then one detail a line."""
        return "\n".join([self.headline, *(f"- {detail}" for detail in self.details)])


def verdict(choice: Choice, score: str) -> Verdict:
    """Return the verdict on a choice.

    Args:
        choice: The choice.
        score: The task's score, e.g. ``accuracy`` for ``val/accuracy``.
    """
    return Verdict(
        _headline(choice, score),
        (
            *learning_rates(choice),
            *evidence(choice, score),
            *warning_sentences(choice, score),
            *unpaired(choice),
        ),
    )


def _headline(choice: Choice, score: str) -> str:
    base, monitor, no_better = choice.baseline, choice.monitor, no_better_than_constant(choice)
    if len({(candidate.regularizer, *candidate.strengths.items()) for candidate in choice.candidates}) == 1:
        return " ".join(part for part in (_plain(choice), no_better) if part)
    if no_better:
        return no_better
    if base is None:
        return (
            f"{choice.chosen.label} is the choice: {_state(choice.chosen, score)}. The sweep has no run without a "
            "regularizer, so it cannot say whether regularization helps. Give it a block without one: "
            f"'sweep.blocks=[{{regularizer: []}}, {{regularizer: [{_names(choice)}], ...}}]'"
        )
    if choice.best.regularizer == "none":
        return (
            f"No regularizer beat training without one: {metric_name(monitor)} is {_estimate(base, monitor)} "
            f"without, and {_rival(choice)}."
        )
    return f"{_doubt(choice, base)}{_sentence(choice, base, score)}."


def _names(choice: Choice) -> str:
    return choice.chosen.regularizer.replace("+", ", ")


def _doubt(choice: Choice, base: Candidate) -> str:
    """Return what to say first where it is not shown that the choice helps; empty where it is."""
    claim, monitor, best = choice.claim(), choice.monitor, choice.best
    metric, before, after = metric_name(monitor), number(base.mean(monitor)), number(best.mean(monitor))
    if claim is None:
        if not choice.within(base):
            return ""
        return (
            f"No clear evidence that regularization helps here: without it, {metric} is {before}, within one standard "
            f"error ({number(best.estimate(monitor).error)}) of the best, {after} ({best.label}). "
        )
    indices = {candidate.label: index for index, candidate in enumerate(choice.claimed)}
    clearest = min(choice.claimed, key=lambda c: claim.t[indices[c.label]])
    if claim.seeds == 1 and min(claim.p) <= claim.level:
        after = number(clearest.mean(monitor))
        return (
            f"On these validation rows, {clearest.label} does better than none ({metric} {after}, {before} without), "
            "but with one run of each setting the luck of a seed would look the same: sweep several seeds, such as "
            "sweep.seeds=3, to know whether regularization helps here. "
        )
    if not claim.helps:
        many = plural(len(choice.claimed), "setting")
        return (
            f"No clear evidence that regularization helps here: without it, {metric} is {before}; the best of {many} "
            f"reaches {after} ({best.label}), which chance alone can give "
            f"(p = {_p(claim.p[indices[best.label]])} over all of them). "
        )
    if claim.better(indices[choice.chosen.label]):
        return ""
    return (
        f"Regularization helps here ({clearest.label}: {metric} {number(clearest.mean(monitor))} against {before}, "
        f"p = {_p(claim.p[indices[clearest.label]])} over all settings), but that is not shown for the choice itself. "
    )


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "<0.001"


def _plain(choice: Choice) -> str:
    """Return the headline of a sweep of one setting, or over other things than regularizers."""
    best, monitor = choice.best, choice.monitor
    estimate = f"{metric_name(monitor)} {_estimate(best, monitor)}"
    others = [c for c in choice.candidates if c is not best]
    if not others:
        return f"{best.label}: {estimate}."
    near = sum(choice.within(other) for other in others)
    verb = "is" if near == 1 else "are"
    count_text = f"{near} of the {len(others)} others {verb}" if near else "No other setting is"
    return f"{best.label} is best: {estimate}. {count_text} within one standard error of it."


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
    """Return how gap, score and validation loss of the choice differ from the baseline's."""
    chosen = choice.chosen
    runs = plural(len(chosen.trials), "run") + (" each" if len(chosen.trials) == len(base.trials) else "")
    moves = [
        _move(choice, base, key)
        for key in dict.fromkeys((f"val/{score}", "val/loss"))
        if base.has(key) and chosen.has(key)
    ]
    moved = " and ".join(moves)
    gap = f"{_gap(choice, base)} ({runs})"
    return f"{gap}. {moved[:1].upper()}{moved[1:]}" if moves else gap


def _gap(choice: Choice, base: Candidate) -> str:
    """Return how the gap changed; "cuts" only where the paired interval excludes 0."""
    chosen = choice.chosen
    before, after = base.interval("gap/loss"), chosen.interval("gap/loss")
    paired = choice.comparison.gap(chosen, base)
    if paired is None:
        verb = "cuts" if after.high < before.low else "widens" if after.low > before.high else "does not clearly change"
    else:
        low, high = paired.interval(1 - LEVEL)
        verb = "cuts" if high < 0 else "widens" if low > 0 else "does not clearly change"
    return f"{chosen.label} {verb} the gap in loss from {bracket(before)} to {bracket(after)}"


def _move(choice: Choice, base: Candidate, key: str) -> str:
    before, after, name = base.mean(key), choice.chosen.mean(key), metric_name(key)
    if number(before) == number(after):
        return f"{name} stays at {number(after)}"
    paired = choice.comparison.on(key).difference(choice.chosen, base)
    verb = "rises" if after > before else "falls"
    if paired is not None and paired.p > LEVEL:
        return f"{name} goes from {number(before)} to {number(after)}, no clear difference"
    return f"{name} {verb} from {number(before)} to {number(after)}"

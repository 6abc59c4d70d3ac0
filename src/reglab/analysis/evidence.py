"""Evidence behind a sweep's choice: rule, ties, winner's curse, constant predictor."""

from collections.abc import Iterator

from reglab.analysis.formatting import listing, metric_name, number, plural, spread
from reglab.analysis.grouping import short_key
from reglab.analysis.learning_rate import fails
from reglab.analysis.selection import Candidate, Choice, pick

LEVEL = 0.05


def evidence(choice: Choice, score: str) -> list[str]:
    """Return the sentences on how the choice was made and what supports it.

    Args:
        choice: The choice.
        score: The task's score, e.g. ``accuracy`` for ``val/accuracy``.
    """
    return [
        *rule(choice),
        *order(choice),
        *better_than_baseline(choice),
        *ties(choice),
        *winners_curse(choice),
        *constant(choice, score),
    ]


def rule(choice: Choice) -> Iterator[str]:
    """Yield why the chosen setting is chosen, where it is not simply the best."""
    best, chosen = choice.best, choice.chosen
    if best is chosen:
        yield from _stronger(choice)
        return
    paired = choice.difference(chosen, best) if choice.rule == "paired_1se" else None
    compared_to = (
        "of it" if paired is None else f"of the difference to it ({number(paired.mean)} ±{number(paired.error)})"
    )
    error = best.estimate(choice.monitor)
    yield (
        f"{best.label} has the best {metric_name(choice.monitor)}, {spread(error.mean, error.error)}; "
        f"{chosen.label} ({number(chosen.mean(choice.monitor))}) is the strongest {chosen.block} within one standard "
        f"error {compared_to}, hence the choice."
    )


def _stronger(choice: Choice) -> Iterator[str]:
    """Yield the strongest setting within one standard error, where the best is the choice."""
    best = choice.best
    if choice.rule != "best" or not choice.comparison.has(choice.compared):
        return
    _, strongest = pick([c for c in choice.compared if c.block == best.block], choice.comparison, "paired_1se")
    paired = choice.difference(strongest, best)
    if strongest is not best and paired is not None:
        yield (
            f"{strongest.label} ({number(strongest.mean(choice.monitor))}) is the strongest {best.block} within one "
            f"standard error of the difference to it ({number(paired.mean)} ±{number(paired.error)}): "
            "sweep.rule=paired_1se would choose it."
        )


def unpaired(choice: Choice) -> Iterator[str]:
    """Yield that settings cannot be compared example by example, and why."""
    if len(choice.compared) < 2 or choice.comparison.has(choice.compared):
        return
    if choice.chosen.without_rows(choice.monitor):
        yield f"{metric_name(choice.monitor)} has no value for each row: settings are compared by its means alone."
        return
    consequence = "settings are judged by their own standard errors, not by that of the paired difference"
    if choice.comparison.has_examples(choice.compared):
        yield (
            f"The settings were not all measured on the same validation rows, or {metric_name(choice.monitor)} is not "
            f"defined for all: {consequence}."
        )
    else:
        yield (
            f"Some runs keep no per-example results (earlier versions wrote none), so {consequence}. Run the sweep "
            "again to have them."
        )


def order(choice: Choice) -> Iterator[str]:
    """Yield what "stronger" means where several numbers are swept."""
    best = choice.best
    peers = [c for c in choice.compared if c.block == best.block]
    keys = list(best.strengths)
    others = [key for key in best.settings if key not in best.strengths and key.startswith("regularizer.")]
    if choice.rule == "best" or len(peers) < 2:
        return
    names = listing([short_key(key, (*keys, *others)) for key in keys])
    if len(keys) > 1:
        yield f"{names} are swept together: a setting counts as stronger where none of them is weaker."
    if others:
        unknown = listing([short_key(key, (*keys, *others)) for key in others])
        verb = "is" if len(others) == 1 else "are"
        rest = "settings are compared in strength at equal values of it" if keys else "the best is the choice"
        yield f"{unknown} {verb} not known to regularize more or less, so {rest}."


def better_than_baseline(choice: Choice) -> Iterator[str]:
    """Yield how many settings are better than training without a regularizer."""
    claim = choice.claim()
    if claim is None or not claim.helps:
        return
    better = sum(claim.better(index) for index in range(len(claim.t)))
    verb = "is" if better == 1 else "are"
    yield (
        f"{better} of {plural(len(claim.t), 'setting')} {verb} better than training without a regularizer, tested "
        f"all at once (smallest p = {min(claim.p):.2g}, at level {LEVEL:g})."
    )


def ties(choice: Choice) -> Iterator[str]:
    """Yield the regularizers whose best setting does not differ clearly from the best of all."""
    tied = [c for c in choice.rivals if c is not choice.best and c.regularizer != "none" and _tied(choice, c)]
    if tied:
        described = [f"{c.label} ({number(c.mean(choice.monitor))}, t = {_t(choice, c):.1f})" for c in tied]
        yield (
            f"A tie: {choice.best.label} ({number(choice.best.mean(choice.monitor))}) is not clearly better than "
            f"{listing(described)}, given the noise of examples and seeds."
        )


def _tied(choice: Choice, candidate: Candidate) -> bool:
    paired = choice.difference(candidate, choice.best)
    return paired is not None and paired.p > LEVEL


def _t(choice: Choice, candidate: Candidate) -> float:
    paired = choice.difference(candidate, choice.best)
    return abs(paired.t) if paired is not None else 0.0


def winners_curse(choice: Choice) -> Iterator[str]:
    """Yield the best value corrected for the winner's curse."""
    # One that fails could not have been chosen by luck, and its noise would be most of the correction.
    able = [each for each in choice.compared if each is choice.best or not fails(choice, each)]
    luck = choice.comparison.optimism(able) if len(able) > 1 else None
    if not luck or luck <= 0:
        return
    value = choice.best.mean(choice.monitor)
    expected = choice.loss(choice.best) + luck
    expected = expected if choice.loss(choice.best) == value else -expected
    if number(expected) != number(value):
        many = plural(len(choice.compared), "setting")
        yield (
            f"The best of {many} looks better than it is: its {metric_name(choice.monitor)} of {number(value)} is "
            f"about {number(expected)} when corrected for that (bootstrap)."
        )


def no_better_than_constant(choice: Choice) -> str:
    """Return a sentence if the choice is not shown to beat the constant predictor; else empty.

    Training with class or sample weights gives up some of the plain loss: there the weighted loss
    counts too.
    """
    monitor, chosen = choice.monitor, choice.chosen
    paired_differences = [choice.comparison.on(key).constant(chosen) for key in (monitor, "val/weighted_loss")]
    available = [paired for paired in paired_differences if paired is not None]
    if not available or _weighted(chosen) or any(paired.mean < 0 and paired.p <= LEVEL for paired in available):
        return ""
    constant_value = choice.comparison.constant_value(chosen, monitor)
    return (
        f"By {metric_name(monitor)}, the choice, {chosen.label} ({number(chosen.mean(monitor))}), is not shown to be "
        f"better than the constant predictor ({number(constant_value or 0.0)}), which looks at no input. Train longer, "
        "with another optimizer.lr or model, or look at the data."
    )


def _weighted(candidate: Candidate) -> bool:
    params = candidate.trials[0].params
    return any(params.get(f"data.{key}") not in (None, "", "None", "null") for key in ("class_weight", "sample_weight"))


def constant(choice: Choice, score: str) -> Iterator[str]:
    """Yield where the choice's score is no better than a constant's, though its loss is better."""
    key, chosen = f"val/{score}", choice.chosen
    constant_value = choice.comparison.constant_value(chosen, key)
    paired = choice.comparison.on(key).constant(chosen)
    if constant_value is None or paired is None or not chosen.has(key) or no_better_than_constant(choice):
        return
    if not (paired.mean < 0 and paired.p <= LEVEL):
        yield (
            f"By {metric_name(key)}, {chosen.label} ({number(chosen.mean(key))}) is not shown to be better than the "
            f"constant predictor ({number(constant_value)}), which looks at no input: judge it by "
            f"{metric_name(choice.monitor)}, or by a score that a constant cannot reach (measure.monitor)."
        )

"""What a sweep over learning rates says: the best one, those that are as good, and where training
fails.
"""

from collections.abc import Iterator

from reglab.analysis.formatting import compact, listing
from reglab.analysis.selection import Candidate, Choice

KEY = "optimizer.lr"
LEVEL = 0.05


def learning_rates(choice: Choice) -> Iterator[str]:
    """Yield the sentences on a sweep whose settings differ in the learning rate alone.

    A rate is as good as the best where their paired difference over examples and seeds is not clear
    at level 0.05. Training fails where the monitored metric is no better than a constant
    predictor's, or where it diverged.

    Args:
        choice: The choice.
    """
    if len(choice.compared) < 3 or any(set(candidate.settings) != {KEY} for candidate in choice.candidates):
        return
    if len({candidate.block for candidate in choice.candidates}) > 1 or not choice.comparison.has(choice.compared):
        return
    rates = sorted(map(_rate, choice.compared))
    best = _rate(choice.best)
    alike = sorted(_rate(each) for each in choice.compared if each is choice.best or _alike(choice, each))
    how = f"by the paired differences over examples and seeds at level {LEVEL:g}"
    if len(alike) > 1:
        yield (
            f"The best learning rate is not clear: {listing([compact(rate) for rate in alike])} do not differ clearly, "
            f"{how}. optimizer.lr={compact(best)} has the best mean, and {compact(alike[-1])} is the largest of them."
        )
    else:
        yield f"optimizer.lr={compact(best)} is clearly the best of {len(rates)} learning rates, {how}."
    if (end := _failing(choice, best)) is not None:
        yield f"From optimizer.lr={compact(end)} on, training fails: it diverges, or does no better than a constant."
    if best in (rates[0], rates[-1]) and end is None:
        where = "largest" if best == rates[-1] else "smallest"
        yield f"The best rate is the {where} of those tried: try {where.replace('est', 'er')} ones too."


def _rate(candidate: Candidate) -> float:
    return float(candidate.settings[KEY])


def _alike(choice: Choice, candidate: Candidate) -> bool:
    paired = choice.difference(candidate, choice.best)
    return paired is not None and paired.p > LEVEL and not fails(choice, candidate)


def fails(choice: Choice, candidate: Candidate) -> bool:
    """Tell whether a setting does no better than the constant predictor.

    Args:
        choice: That it is among.
        candidate: The setting.
    """
    paired = choice.comparison.constant(candidate)
    return paired is not None and paired.mean >= 0


def _failing(choice: Choice, best: float) -> float | None:
    """Return the smallest rate above the best one from which on all fail."""
    ended = {_rate(each): fails(choice, each) for each in choice.candidates}
    ended |= {float(trial.params[KEY]): True for trial in choice.failed if KEY in trial.params}
    end = None
    for rate in sorted(ended, reverse=True):
        if not ended[rate] or rate <= best:
            break
        end = rate
    return end

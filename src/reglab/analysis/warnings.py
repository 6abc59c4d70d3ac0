"""Warnings that qualify a sweep's answer. Each function yields sentences, or none."""

import math
from collections.abc import Iterator

from reglab.analysis.formatting import listing, metric_name, number, percent, plural
from reglab.analysis.grouping import short_key
from reglab.analysis.selection import Candidate, Choice
from reglab.core.metric_direction import LOSS_OF_REGRESSION


def warning_sentences(choice: Choice, score: str) -> list[str]:
    """Return the warnings about a choice, the most important first.

    Args:
        choice: The choice.
        score: The task's score, e.g. ``accuracy`` for ``val/accuracy``.
    """
    return [
        *missing_jobs(choice),
        *disagreement(choice, score),
        *underfitting(choice),
        *paths(choice),
        *range_ends(choice),
        *exact_zeros(choice),
        *single_runs(choice),
        *failed_runs(choice),
        *missing_loss_intervals(choice),
        *loss_units(choice),
    ]


def missing_jobs(choice: Choice) -> Iterator[str]:
    """Yield that jobs of the sweep have no run."""
    if choice.absent:
        verb = "has" if choice.absent == 1 else "have"
        yield (
            f"The sweep is incomplete: {plural(choice.absent, 'job')} {verb} no run (not started, interrupted, or "
            "ended before a run was opened). Run it again for an answer about all jobs."
        )


def disagreement(choice: Choice, score: str) -> Iterator[str]:
    """Yield that loss and score disagree, as for an overconfident model."""
    base, chosen, key = choice.baseline, choice.chosen, f"val/{score}"
    if base is None or chosen is base or not (base.has(key) and chosen.has(key)):
        return
    paired = choice.comparison.on(key).difference(chosen, base)
    if paired is not None and paired.p > 0.05:
        return
    if choice.loss(chosen) < choice.loss(base) and chosen.mean(key) < base.mean(key):
        yield (
            f"By {metric_name(key)} alone, training without a regularizer is better ({number(base.mean(key))} against "
            f"{number(chosen.mean(key))}): decide by what your use needs."
        )


def underfits(choice: Choice, candidate: Candidate) -> bool:
    """Tell whether a smaller gap than the baseline's came with clearly worse validation."""
    base = choice.baseline
    if base is None or candidate is base or not (candidate.has("gap/loss") and base.has("gap/loss")):
        return False
    if not candidate.mean("gap/loss") < base.mean("gap/loss"):
        return False
    paired = choice.difference(candidate, base)
    if paired is not None:
        return paired.mean > 0 and paired.p <= 0.05
    error = max(base.estimate(choice.monitor).error, candidate.estimate(choice.monitor).error)
    return choice.loss(candidate) > choice.loss(base) + error


def underfitting(choice: Choice) -> Iterator[str]:
    """Yield that a gap shrank because training got worse."""
    base, chosen = choice.baseline, choice.chosen
    if base is None:
        return
    gap, train = "gap/loss", "train/loss"
    shrank = chosen.has(gap) and base.has(gap) and chosen.mean(gap) < base.mean(gap)
    if chosen is not base and shrank and choice.loss(chosen) >= choice.loss(base):
        yield (
            f"With {chosen.label} the gap shrank only because training got worse (training loss "
            f"{number(base.mean(train))} to {number(chosen.mean(train))}); validation did not gain."
        )
    poor = [c for c in choice.candidates if underfits(choice, c) and not c.mean(gap) > chosen.mean(gap)]
    if poor and chosen not in poor:
        worst = min(poor, key=lambda c: c.mean(gap))
        yield (
            f"A small gap alone is no success: {worst.label} has {number(worst.mean(gap))}, but it underfits "
            f"({metric_name(choice.monitor)} {number(worst.mean(choice.monitor))} against "
            f"{number(base.mean(choice.monitor))} without a regularizer)."
        )


def paths(choice: Choice) -> Iterator[str]:
    """Yield that the runs are warm-started paths."""
    directions = {
        trial.params.get("sweep.path", "null") for candidate in choice.candidates for trial in candidate.trials
    }
    for direction in sorted(directions - {"null"}):
        yield (
            f"The runs are warm-started paths (sweep.path={direction}): each starts from the weights of the one before "
            "it, so a single run of the same setting, with as many epochs, may end elsewhere."
        )


def range_ends(choice: Choice) -> Iterator[str]:
    """Yield that the best or chosen strength is at the end of its range."""
    best, chosen = choice.best, choice.chosen
    peers = [c for c in choice.candidates if c.block == best.block and c.strengths.keys() == best.strengths.keys()]
    for key, value in best.strengths.items():
        values = [c.strengths[key] for c in peers]
        where = f" in {short_key(key, best.strengths)}" if len(best.strengths) > 1 else ""
        if min(values) == max(values):
            continue
        if value in (min(values), max(values)):
            end = "strongest" if value == max(values) else "weakest"
            yield (
                f"The best, {best.label}, is the {end} of its range{where}: extend the range beyond it and sweep again."
            )
        elif chosen.strengths.get(key) == max(values):
            yield (
                f"The choice, {chosen.label}, is the strongest of its range{where}: a stronger one may still be within "
                "one standard error, so extend the range."
            )


def exact_zeros(choice: Choice) -> Iterator[str]:
    """Yield which choice has the most exact zeros, and when SGD noise prevents them."""
    sparsest = max(choice.blocks.values(), key=lambda c: c.zeros if c.has("weights/zeros") else 0.0)
    if sparsest.has("weights/zeros") and sparsest.zeros >= 0.01:
        yield f"{sparsest.label} sets {percent(sparsest.zeros)} of the weights to exactly zero."
    noisy = [c for c in choice.blocks.values() if c.has("weights/zeros") and _minibatch_sgd(choice, c)]
    if noisy:
        yield (
            f"{noisy[0].label} trains by SGD on batches of {noisy[0].trials[0].params.get('data.batch_size')}: their "
            "noise keeps weights from the zero that the whole training part would give them. Count zeros under "
            "optimizer=adam, with a larger data.batch_size, or after trainer.polish_steps=100."
        )


def _minibatch_sgd(choice: Choice, candidate: Candidate) -> bool:
    """Tell whether a proximal L1 step meets minibatch noise, which SGD passes on unscaled."""
    params = candidate.trials[0].params
    targets = [value for key, value in params.items() if key.startswith("regularizer.") and key.endswith("._target_")]
    proximal = any(target.rpartition(".")[2] in ("L1", "ElasticNet") for target in targets)
    if int(params.get("trainer.polish_steps") or 0) or _full_batch(choice, candidate):
        return False
    return proximal and params.get("optimizer._target_", "").endswith(".SGD") and candidate.zeros < 0.99


def _full_batch(choice: Choice, candidate: Candidate) -> bool:
    rows, batch = choice.comparison.train_rows(candidate), candidate.trials[0].params.get("data.batch_size", "")
    return rows is not None and batch.isdigit() and int(batch) >= rows


def single_runs(choice: Choice) -> Iterator[str]:
    """Yield that settings have one run each."""
    if all(len(candidate.trials) == 1 for candidate in (choice.best, choice.chosen)):
        yield "One run of each setting: how much seeds differ is not known. Sweep several, e.g. seed=0,1,2."


def failed_runs(choice: Choice) -> Iterator[str]:
    """Yield how many runs gave no result, and which settings are left out for it."""
    if choice.failed:
        finished = sum(len(candidate.trials) for candidate in choice.candidates)
        yield (
            f"{len(choice.failed)} of {plural(finished + len(choice.failed), 'run')} gave no result (failed, diverged "
            "or stopped)."
        )
    short = [c.label for c in choice.candidates if c.missing > choice.chosen.missing]
    if short:
        yield f"Left out of the choice, since some of its runs are missing: {listing(short)}."


def missing_loss_intervals(choice: Choice) -> Iterator[str]:
    """Yield why a gap in loss has no interval: too few errors to estimate their cost."""
    if choice.chosen.without_rows("val/loss"):
        yield (
            "The loss has no value for each row, and too few groups of rows were measured for an interval: only the "
            "spread over seeds tells how far chance moves it."
        )
        return
    ends = "gap/loss_low", "gap/loss_high"
    labels = [
        candidate.label
        for candidate in {id(c): c for c in (choice.chosen, choice.best, choice.baseline) if c is not None}.values()
        if any(math.isnan(trial.metrics.get(end, 0.0)) for trial in candidate.trials for end in ends)
    ]
    if labels:
        yield (
            f"No interval for the loss: {listing(labels)} made no error on the validation rows in some run, so the "
            "cost of an error cannot be estimated. The interval of the score is valid."
        )


def loss_units(choice: Choice) -> Iterator[str]:
    """Yield what the loss of a regression is."""
    if choice.chosen.has("val/rmse"):
        yield LOSS_OF_REGRESSION

"""Sections of a sweep's report that are sentences: when overfitting began, learning curves, hard rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import bracket, number, plural
from reglab.analysis.learning_curve import LEAST_SIZES, LearningCurve, learning_curve
from reglab.analysis.onset import LEAST_EPOCHS, OnsetOfRuns, onset_of_runs
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData
from reglab.core.errors import UserError
from reglab.reports.figures.summary import rows
from reglab.reports.hardest import hardest
from reglab.reports.section import Section
from reglab.reports.terminal import setting

TRAIN_SIZE = "data.train_size"
LOSS = "val/loss"
_MOST = 6  # settings whose onset is told


def sections(data: SweepData, choice: Choice) -> tuple[Section, ...]:
    """Return the sections that the sweep has results for.

    Args:
        data: Of the sweep.
        choice: The choice.
    """
    found = learning_curves(data, choice), onsets(data, choice), hardest(data, choice)
    return tuple(each for each in found if each is not None)


def onsets(data: SweepData, choice: Choice) -> Section | None:
    """Return when overfitting began in the settings whose curves are drawn; None without curves of
    ``LEAST_EPOCHS`` epochs.
    """
    sentences = []
    for candidate in rows(choice)[:_MOST]:
        curves = [data.histories.get(trial.run_id, {}).get(LOSS, ()) for trial in candidate.trials]
        runs = [([epoch for epoch, _ in curve], [loss for _, loss in curve]) for curve in curves]
        if runs and min(len(epochs) for epochs, _ in runs) >= LEAST_EPOCHS:
            found = onset_of_runs(runs, candidate.trials[0].level)
            sentences.append(f"{candidate.label}: {_began(found)}.")
    if not sentences:
        return None
    return Section(
        "When overfitting began",
        tuple(sentences),
        "The epoch from which on the validation loss rises: where a fall and a rise meet that are fitted to it, if "
        f"they fit better than a fall that stays, by more than chance. In brackets its {data.level} "
        "interval: of one run by refits to drawn noise, of several Student's over those where it was seen.",
    )


def _began(found: OnsetOfRuns) -> str:
    if not found.told:
        return "too few epochs after the first fall, or no finite loss, to tell"
    if not found.seen:
        return f"no overfitting seen in {plural(found.runs, 'run')}"
    rise = f"{found.epoch:.0f} [{found.low:.0f}, {found.high:.0f}]"
    return f"validation loss rises from epoch {rise} on, seen in {found.seen} of {plural(found.runs, 'run')}"


def learning_curves(data: SweepData, choice: Choice) -> Section | None:
    """Return the learning curve of each setting, and what twice the rows would bring beside the best
    regularizer; None where the sweep has one ``data.train_size``.
    """
    groups: dict[str, list[tuple[int, Candidate]]] = {}
    for candidate in choice.candidates:
        others = {key: value for key, value in candidate.settings.items() if key != TRAIN_SIZE}
        label = " ".join(filter(None, (candidate.block, setting(replace(candidate, settings=others)))))
        size = _train_rows(data, candidate)
        if size is not None and candidate.has(LOSS):
            groups.setdefault(label, []).append((size, candidate))
    if len({size for group in groups.values() for size, _ in group}) < 2:
        return None
    curves: dict[str, LearningCurve] = {}
    sentences = []
    for label, group in groups.items():
        runs = [(size, trial) for size, candidate in group for trial in candidate.trials]
        seeds = [str(trial.repeat()) for _, trial in runs]
        losses = [trial.metrics[LOSS] for _, trial in runs]
        try:
            found = learning_curve([size for size, _ in runs], losses, seeds, group[0][1].trials[0].level)
        except UserError as error:
            sentences.append(f"{label}: {error}.")
            continue
        curves[label] = found
        sentences.append(f"{label}: {_law(found)}.")
    return Section(
        "Learning curves",
        (*_compared(groups, curves), *sentences),
        "Least squares of floor + scale · rows^-exponent, floor and scale at least 0, to the validation loss of runs "
        f"with {LEAST_SIZES} or more numbers of training rows, errors relative to the loss. In brackets: the "
        f"{data.level} profile-likelihood interval over seeds, on the same validation rows. An extrapolation "
        "holds if the law does, which these runs cannot tell; the best of several regularizers looks a little "
        "better than it is.",
        in_terminal=True,
    )


def _law(found: LearningCurve) -> str:
    twice = found.twice
    value = bracket(Interval(twice.value, twice.low, twice.high))
    return (
        f"validation loss {number(found.floor)} + {number(found.scale)} · rows^-{found.exponent:.2f} from "
        f"{found.least:g} to {found.most:g} rows; at {twice.rows:g} rows it would be {value}"
    )


def _compared(groups: dict[str, list[tuple[int, Candidate]]], curves: dict[str, LearningCurve]) -> Iterator[str]:
    """Yield what twice the rows would bring without a regularizer, against the best regularizer."""
    plain = [label for label, group in groups.items() if group[0][1].regularizer == "none" and label in curves]
    if len(plain) != 1:
        return
    (base,) = plain
    curve = curves[base]
    largest = [c for group in groups.values() for size, c in group if size == curve.most and c.regularizer != "none"]
    if not largest:
        return
    best = min(largest, key=lambda candidate: candidate.mean(LOSS))
    label = next(label for label, group in groups.items() if any(best is candidate for _, candidate in group))
    loss, twice = best.mean(LOSS), curve.twice
    if loss >= curve(curve.most):
        answer = "no regularizer helped there"
    elif twice.high < loss:
        answer = "twice the rows would help more"
    else:
        answer = "the regularizer helps more" if twice.low > loss else "which of the two helps more is not known"
    times = curve.rows_for(loss) / curve.most
    worth = f", worth {times:.2g} times the rows" if 1 < times <= 10 else ""
    yield (
        f"Twice the rows ({twice.rows:g}) would bring {base} from {number(curve(curve.most))} to "
        f"{bracket(Interval(twice.value, twice.low, twice.high))}; the best regularizer with {curve.most:g} rows, "
        f"{label}, has {number(loss)}{worth}: {answer}."
    )


def _train_rows(data: SweepData, candidate: Candidate) -> int | None:
    """Return how many rows a setting's runs were trained on, rounded over runs (folds differ by a
    row); None where they do not say.
    """
    found = []
    for trial in candidate.trials:
        examples = data.results.get(trial.run_id)
        given = trial.params.get(TRAIN_SIZE, "")
        if examples is not None and examples.train_rows is not None:
            found.append(int(examples.train_rows))
        elif given.isdecimal():
            found.append(int(given))
    return round(fmean(found)) if found else None


def told(found: Sequence[Section]) -> tuple[str, ...]:
    """Return what the terminal shows of the sections: title and sentences."""
    return tuple(
        "\n".join([each.title, *(f"- {text}" for text in each.sentences)]) for each in found if each.in_terminal
    )

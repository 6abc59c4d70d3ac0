"""``reglab.bias_variance``: bias and variance of regularizers, from a plain ``nn.Module``."""

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from reglab.analysis.bias_variance.predictions import TASKS
from reglab.analysis.bias_variance.tradeoff import BiasVariance
from reglab.analysis.bias_variance.tradeoff import bias_variance as decompose_settings
from reglab.analysis.per_example_file import OUTPUTS, Examples
from reglab.analysis.selection import select
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.data.replicas import resampled
from reglab.models.lightning_module import check_plain
from reglab.regularizers import Cocktail, Regularizer, name_members
from reglab.reports.bias_variance import plain_table, records, sentences, sources, table
from reglab.reports.figures.bias_variance import draw_bias_variance
from reglab.training import describe
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment
from reglab.training.fused.temporary import examples_of, train_together
from reglab.training.length import take_length
from reglab.training.process_state import process_restored
from reglab.training.recipe import Recipe, optimizer_config, scheduler_config

_WIDTH = 150
_STEPS = 32  # of a chunk, as by default elsewhere
Setting = Regularizer | Sequence[Regularizer]


@dataclass(frozen=True)
class BiasVarianceResult:
    """Bias, variance and noise of settings; printed, it is a table and what it says.

    Attributes:
        found: All of it.
        diverged: How many trainings diverged, and are left out.
    """

    found: BiasVariance
    diverged: int = 0

    @property
    def records(self) -> list[dict[str, str | float | int]]:
        """A mapping for each setting, loss and part, as ``pandas.DataFrame`` takes them."""
        return records(self.found)

    def figure(self) -> Figure | None:
        """Return the parts against strength; None if no regularizer was given at several."""
        return draw_bias_variance(self.found)

    def __str__(self) -> str:
        console = Console(width=_WIDTH, color_system=None)
        with console.capture() as captured:
            console.print(table(self.found, _WIDTH) or "")
            names, rows = sources(self.found)
            if rows:
                console.print(plain_table("Variance by source", names, rows))
        lost = [f"{self.diverged} trainings diverged and are left out"] if self.diverged else []
        return captured.get() + "\n".join(f"- {each}" for each in [*sentences(self.found), *lost])


@process_restored()
def bias_variance(
    model: nn.Module | Callable[[], nn.Module],
    data: DataSet,
    regularizers: Sequence[Setting] | Mapping[str, Setting],
    *,
    replicas: int = 20,
    resample: Literal["bootstrap", "disjoint"] = "bootstrap",
    seeds: int = 1,
    epochs: int = 50,
    batch_size: int = 32,
    optimizer: str | Mapping[str, Any] = "adam",
    lr: float | Literal["default"] | None = "default",
    scheduler: str | Mapping[str, Any] | None = None,
    level: float = 0.95,
) -> BiasVarianceResult:
    """Train each setting on resampled training parts, and tell bias, variance and noise apart.

    ``reglab.bias_variance(model, data, [[], *map(reglab.L2, reglab.log(1e-3, 1e-1, 8))])`` trains
    without a regularizer and with eight strengths, on 20 training samples each. Trainings that differ in
    numbers only are fused. What is measured are the validation rows; ``model`` itself is not trained.

    Args:
        model: A module, from whose weights all trainings start; or a function that returns one, called
            once for each seed with torch's generator seeded.
        data: From ``reglab.dataset``.
        regularizers: Settings: a regularizer, or a list of them (empty: none), by name where it is a
            mapping.
        replicas: Number of training samples, >= 2.
        resample: ``bootstrap``: rows drawn with replacement, for the variance given this training
            part; ``disjoint``: parts of it, for that of fresh samples of that smaller size.
        seeds: Number of seeds for each sample, the same ones for all, >= 1: of several, the variance
            is split into that of training samples and that of seeds.
        epochs: Passes over a sample, >= 1.
        batch_size: Rows of a batch, >= 1.
        optimizer: As for ``reglab.fit``.
        lr: As for ``reglab.fit``.
        scheduler: As for ``reglab.fit``.
        level: Of the intervals, between 0 and 1.

    Returns:
        The parts of each setting, with intervals over training samples and rows.

    Raises:
        UserError: For bad input, or if all trainings diverged.
    """
    settings = named_settings(regularizers)
    _check(model, data, replicas, resample, seeds, level)
    models = [starting_module(model, seed) for seed in range(seeds)]
    samples = resampled(data, replicas, resample)
    length = take_length({"max_epochs": epochs}, len(samples[0].train), batch_size, "epochs")
    schedule = scheduler_config(scheduler)
    recipe = Recipe(optimizer_config(optimizer, lr), schedule, None, batch_size, _STEPS, *length, "val/loss")
    jobs: dict[int, Experiment] = {}
    trials: dict[int, Trial] = {}
    for number, ((name, members), replica, seed) in enumerate(product(settings.items(), range(replicas), range(seeds))):
        cocktail = Cocktail(copy.deepcopy(members), seed, data.task)
        jobs[number] = Experiment(copy.deepcopy(models[seed]), cocktail, samples[replica], recipe)
        trials[number] = _trial(number, name, cocktail, (replica, replicas, resample), seed, level)
    trials = _told_apart(trials)
    for first in range(0, len(jobs), replicas * seeds):
        check_experiment(jobs[first])
    with tempfile.TemporaryDirectory() as folder:
        examples = examples_of(train_together(jobs, Path(folder)))
    if not examples:
        raise UserError("all trainings diverged: lower lr, or the strengths")
    return BiasVarianceResult(_decomposed(examples, trials, data.task, level), len(jobs) - len(examples))


def named_settings(given: object) -> dict[str, dict[str, Regularizer]]:
    """Return the members of each setting, by its name."""
    if isinstance(given, Regularizer):
        given = [given]
    named = given if isinstance(given, Mapping) else None
    several = list(named.values()) if named is not None else given
    if not isinstance(several, Sequence) or isinstance(several, str) or not several:
        raise UserError(
            "regularizers must be a list of settings, such as [[], reglab.L2(1e-3), reglab.L2(1e-2)], where [] is "
            f"none; got {given!r}"
        )
    members = [_members(setting) for setting in several]
    names = [str(name) for name in named] if named is not None else [""] * len(members)
    labels = [name or f"{place}" for place, name in enumerate(names)]
    return dict(zip(labels, members, strict=True))


def _members(setting: object) -> dict[str, Regularizer]:
    listed = [setting] if isinstance(setting, Regularizer) else setting
    if not isinstance(listed, Sequence) or not all(isinstance(member, Regularizer) for member in listed):
        raise UserError(f"a setting is a regularizer or a list of them, such as reglab.L2(1e-3); got {setting!r}")
    return name_members(listed)


def _check(model: object, data: object, replicas: object, resample: str, seeds: object, level: float) -> None:
    if not isinstance(data, DataSet) or not (isinstance(model, nn.Module) or callable(model)):
        raise UserError(
            "reglab.bias_variance takes a torch.nn.Module, or a function that makes one, and the data of "
            "reglab.dataset(...), in this order"
        )
    if data.task not in TASKS:
        raise UserError(
            f"bias and variance are told apart for squared error and cross-entropy ({', '.join(TASKS)}), and the task "
            f"is {data.task}"
        )
    if len(data.val) * data.outputs > OUTPUTS:
        raise UserError(
            f"the outputs of {len(data.val)} validation rows are more than {OUTPUTS} numbers: validate on fewer rows, "
            "reglab.dataset(..., val_size=...)"
        )
    if type(replicas) is not int or replicas < 2:
        raise UserError(f"replicas={replicas!r}: variance needs at least 2 training samples; 20 give useful intervals")
    if resample not in ("bootstrap", "disjoint"):
        raise UserError(f"resample={resample!r} must be 'bootstrap' or 'disjoint'")
    if type(seeds) is not int or seeds < 1:
        raise UserError(f"seeds={seeds!r} must be a number of seeds, 1 or more")
    if not isinstance(level, float) or not 0 < level < 1:
        raise UserError(f"level={level!r} must be between 0 and 1")


def starting_module(model: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return the module with the weights that trainings of a seed start from."""
    if isinstance(model, nn.Module):
        check_plain(type(model), "model")
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model()
    if not isinstance(made, nn.Module):
        raise UserError(f"model must return a torch.nn.Module, and returned a {type(made).__name__}")
    check_plain(type(made), "model")
    return made


def _trial(number: int, name: str, cocktail: Cocktail, sample: tuple[int, int, str], seed: int, level: float) -> Trial:
    members = "+".join(member for member, _ in cocktail.named_regularizers()) or "none"
    strength, stronger = describe.main_strength(cocktail)
    replica, replicas, resample = sample
    params = {"data.replica": str(replica), "data.replicas": str(replicas), "data.resample": resample}
    for member, regularizer in cocktail.named_regularizers():
        numbers = (item for item in regularizer.named_buffers() if item[1].ndim == 0)
        params |= {f"regularizer.{member}.{key}": repr(float(value)) for key, value in numbers}
    return Trial(
        run_id=str(number),
        block=members if name.isdigit() else name,
        regularizer=members,
        strength=strength,
        stronger=stronger,
        seed=seed,
        metrics={},
        params={**params, "measure.level": str(level)},
        status="FINISHED",
        directions=describe.directions(cocktail),
    )


def _told_apart(trials: Mapping[int, Trial]) -> dict[int, Trial]:
    """Return the trials, those of settings that differ in what is no number told apart by their place."""
    by_setting: dict[object, set[int]] = {}
    places = {number: number // _runs_of_a_setting(trials) for number in trials}
    for number, trial in trials.items():
        numbers = {key: value for key, value in trial.params.items() if key.startswith("regularizer.")}
        by_setting.setdefault((trial.block, *sorted(numbers.items())), set()).add(places[number])
    alike = {place for group in by_setting.values() if len(group) > 1 for place in group}
    return {
        number: replace(trial, params={**trial.params, "setting": str(places[number] + 1)})
        if places[number] in alike
        else trial
        for number, trial in trials.items()
    }


def _runs_of_a_setting(trials: Mapping[int, Trial]) -> int:
    return len({trial.within_split for trial in trials.values()})


def _decomposed(examples: Mapping[int, Examples], trials: Mapping[int, Trial], task: str, level: float) -> BiasVariance:
    """Return the parts of each setting.

    Raises:
        UserError: If no training of a setting has a result, or they have no decomposition.
    """
    finished = [
        replace(trials[number], metrics={"val/loss": float(each.val_loss.mean())}) for number, each in examples.items()
    ]
    choice = select(finished, "val/loss")
    found = decompose_settings(choice, lambda ids: {each: examples[int(each)] for each in ids}, task, level)
    if not found.settings:
        raise UserError(found.left_out[0])
    return found

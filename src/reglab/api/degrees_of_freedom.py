"""``reglab.degrees_of_freedom``: effective degrees of freedom of regularized training, by Monte-Carlo."""

import copy
import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reglab.analysis.formatting import compact, number
from reglab.analysis.per_example_file import OUTPUTS, Examples
from reglab.api.bias_variance import Setting, named_settings, starting_module
from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.measures import Gap, MeasureSettings
from reglab.regularizers import Cocktail
from reglab.training import describe
from reglab.training.check import check_experiment, check_seed
from reglab.training.experiment import Experiment
from reglab.training.fused.temporary import examples_of, train_together
from reglab.training.length import take_length
from reglab.training.process_state import process_restored
from reglab.training.recipe import Recipe, optimizer_config, scheduler_config

_STEPS = 32  # of a chunk, as by default elsewhere


@dataclass(frozen=True)
class DegreesOfFreedom:
    """Effective degrees of freedom of one setting; NaN where a training of it diverged.

    Attributes:
        setting: Its name, or its regularizers and their main number.
        value: The estimate.
        error: Its standard error over probes.
        probes: How many there were.
    """

    setting: str
    value: float
    error: float
    probes: int

    def __str__(self) -> str:
        return f"{self.setting}: {number(self.value)} degrees of freedom, standard error {number(self.error)}"


@process_restored()
def degrees_of_freedom(
    model: nn.Module | Callable[[], nn.Module],
    data: DataSet,
    regularizers: Sequence[Setting] | Mapping[str, Setting],
    *,
    probes: int = 20,
    epsilon: float = 0.05,
    seed: int = 0,
    epochs: int = 50,
    batch_size: int = 32,
    optimizer: str | Mapping[str, Any] = "adam",
    lr: float | Literal["default"] | None = "default",
    scheduler: str | Mapping[str, Any] | None = None,
) -> list[DegreesOfFreedom]:
    """Return the effective degrees of freedom of each setting's training: how much its fit of the
    training rows follows their targets.

    ``df = sum_i d fit_i / d y_i``, the divergence of the fit, for squared error. For least squares of
    full rank it is the number of coefficients, for ridge the trace of the hat matrix, for the Lasso the
    expected size of the support; it counts what training does, early ends and all. With random signs
    ``b`` (Hutchinson), ``df`` is the mean of ``b . (fit(y + e b) - fit(y)) / e``: each setting is trained
    once on the targets and once for each probe, from the same weights with the same seed, fused where
    they fit together. Settings have the same probes.

    Args:
        model: A module, from whose weights all trainings start; or a function that returns one, called
            once with torch's generator seeded.
        data: From ``reglab.dataset``, a regression in memory.
        regularizers: Settings, as for ``reglab.bias_variance``.
        probes: Number of random vectors, >= 2.
        epsilon: ``e`` in standard deviations of the training targets, > 0. The small limit is the
            divergence; where training hangs on rounding, as long training of networks does, a larger
            one averages over it.
        seed: Of the trainings, >= 0.
        epochs: Passes over the training rows, >= 1.
        batch_size: Rows of a batch, >= 1.
        optimizer: As for ``reglab.fit``.
        lr: As for ``reglab.fit``.
        scheduler: As for ``reglab.fit``.

    Returns:
        One for each setting, in their order.

    Raises:
        UserError: For bad input, and for early stopping, which would look at the probed rows.

    Source:
        Ye (1998), On measuring and correcting the effects of data mining and model selection; Ramani,
        Blu & Unser (2008), Monte-Carlo SURE; Zou, Hastie & Tibshirani (2007), On the degrees of freedom
        of the lasso.
    """
    settings = named_settings(regularizers)
    _check(model, data, probes, epsilon)
    start = starting_module(model, check_seed(seed))
    targets = data.train.targets
    step = epsilon * float(targets.double().std())
    if not step > 0:
        raise UserError("the training targets are all the same: no fit of them has degrees of freedom")
    generator = torch.Generator().manual_seed(0)
    signs = [torch.randint(0, 2, targets.shape, generator=generator).double() * 2 - 1 for _ in range(probes)]
    samples = [_probed(data, targets, "")]
    samples += [_probed(data, (targets + step * each).to(targets), f"{number}") for number, each in enumerate(signs)]
    length = take_length({"max_epochs": epochs}, len(data.train), batch_size, "epochs")
    schedule = scheduler_config(scheduler)
    recipe = Recipe(optimizer_config(optimizer, lr), schedule, None, batch_size, _STEPS, *length, "val/loss")
    measure = MeasureSettings(measures={"gap": Gap()}, every=epochs)
    jobs: dict[int, Experiment] = {}
    names = []
    for name, members in settings.items():
        cocktail = Cocktail(copy.deepcopy(members), seed, data.task)
        if cocktail.stops:
            raise UserError("early stopping ends at what the validation rows say: leave it out, and set epochs instead")
        names.append(_named(cocktail) if name.isdigit() else name)
        for sample in samples:
            own = Cocktail(copy.deepcopy(members), seed, data.task)
            jobs[len(jobs)] = Experiment(copy.deepcopy(start), own, sample, recipe, measure)
    for first in range(0, len(jobs), len(samples)):
        check_experiment(jobs[first])
    with tempfile.TemporaryDirectory() as folder:
        examples = examples_of(train_together(jobs, Path(folder)))
    trained = [
        [examples.get(setting * len(samples) + each) for each in range(len(samples))] for setting in range(len(names))
    ]
    return [_estimate(name, fits, signs, step) for name, fits in zip(names, trained, strict=True)]


def _estimate(name: str, fits: Sequence[Examples | None], signs: Sequence[Tensor], step: float) -> DegreesOfFreedom:
    outputs = [torch.as_tensor(each.val_outputs).double() for each in fits if each is not None]
    if len(outputs) < len(fits):
        return DegreesOfFreedom(name, math.nan, math.nan, len(signs))
    base, *moved = outputs
    found = torch.stack(
        [(b * (each - base).reshape(b.shape)).sum() / step for b, each in zip(signs, moved, strict=True)]
    )
    return DegreesOfFreedom(name, float(found.mean()), float(found.std()) / len(signs) ** 0.5, len(signs))


def _probed(data: DataSet, targets: Tensor, probe: str) -> DataSet:
    """Return the data with these training targets, and its rows for validation, too."""
    digest = hashlib.sha256(repr((data.digest, "probe", probe)).encode()).hexdigest()
    return replace(data, train=replace(data.train, targets=targets), val=data.train, digest=digest)


def _named(cocktail: Cocktail) -> str:
    members = "+".join(member for member, _ in cocktail.named_regularizers()) or "none"
    strength, _ = describe.main_strength(cocktail)
    return members if strength is None else f"{members} {compact(strength)}"


def _check(model: object, data: object, probes: object, epsilon: object) -> None:
    if not isinstance(data, DataSet) or not (isinstance(model, nn.Module) or callable(model)):
        raise UserError(
            "reglab.degrees_of_freedom takes a torch.nn.Module, or a function that makes one, and the data of "
            "reglab.dataset(...), in this order"
        )
    if data.task != "regression" or data.own is not None:
        raise UserError(
            f"degrees of freedom are those of fits by squared error, and the task is {data.task}: give a data set of "
            'reglab.dataset(..., task="regression")'
        )
    if data.streamed:
        raise UserError("all training rows are predicted, and these inputs are read from disk: load them")
    if len(data.train) * data.outputs > OUTPUTS:
        raise UserError(
            f"the outputs of {len(data.train)} training rows are more than {OUTPUTS} numbers: give fewer rows"
        )
    if type(probes) is not int or probes < 2:
        raise UserError(f"probes={probes!r}: a standard error needs at least 2 probes; 20 give useful ones")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise UserError(f"epsilon={epsilon!r} must be a number > 0")

"""The trainings that a claim looks at: each setting, on data drawn anew in each repetition."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from reglab.data import DataSet, load
from reglab.data.replicas import resampled
from reglab.measures import MeasureSettings
from reglab.models.linear import Linear
from reglab.models.mlp import MLP
from reglab.regularizers import L1, L2, Cocktail, Regularizer, name_members
from reglab.training.experiment import Experiment
from reglab.training.fused.temporary import train_together
from reglab.training.recipe import Recipe, optimizer_config, scheduler_config
from reglab.training.recorder import Progress

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Penalty = type[L1] | type[L2]
_STEPS = 32  # of a chunk, as by default elsewhere


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Args:
        data: The ``data`` node of a config.
        drawn: Its key that numbers the repetitions: of the generator, or of the split.
        regularizers: Each with its strengths, the weakest first. Training without one comes first.
        width: Units of each of two hidden layers; None: a linear model.
        epochs: Passes over the training part.
        lr: Of Adam; it falls to 0 along a cosine.
        samples: Training samples that a training part is dealt out into.
    """

    data: Mapping[str, Any]
    drawn: Literal["seed", "split_seed"]
    regularizers: Mapping[Penalty, tuple[float, ...]]
    width: int | None = None
    epochs: int = 40
    lr: float = 3e-3
    samples: int = 1

    @property
    def settings(self) -> list[list[Regularizer]]:
        """New regularizers of each setting; the first has none."""
        made: list[list[Regularizer]] = [[]]
        for cls, strengths in self.regularizers.items():
            made += [[cls(strength)] for strength in strengths]
        return made

    def indices(self, cls: Penalty) -> list[int]:
        """Return the indices of a regularizer's settings."""
        first = 1
        for each, strengths in self.regularizers.items():
            if each is cls:
                return list(range(first, first + len(strengths)))
            first += len(strengths)
        raise KeyError(cls)

    def labels(self, cls: Penalty) -> tuple[str, ...]:
        """Return the labels of no regularizer and of each strength of one."""
        return ("none", *(f"{strength:.2g}" for strength in self.regularizers[cls]))

    def model(self, data: DataSet) -> nn.Module:
        """Return a model with new weights, by torch's generator."""
        if self.width is None:
            return Linear(inputs=data.input_shape, outputs=data.outputs)
        return MLP(width=self.width, depth=2, inputs=data.input_shape, outputs=data.outputs)


class Trainings:
    """Trained models, ``[repetitions, settings, samples]``, and what they were trained on.

    Args:
        setup: Of all of them.
        data: Of each repetition, before it was dealt out into samples.
        weights: By repetition, setting and sample; without those that diverged.

    Attributes:
        count: How many there are.
        diverged: How many of them diverged.
    """

    def __init__(
        self, setup: Setup, data: list[DataSet], weights: Mapping[tuple[int, int, int], Mapping[str, Tensor]]
    ) -> None:
        self.setup, self.data, self._weights = setup, data, weights
        self.shape = (len(data), len(setup.settings), setup.samples)
        self.count = math.prod(self.shape)
        self.diverged = self.count - len(weights)
        self._models = [setup.model(each).eval() for each in data]

    def weight(self, name: str) -> Floats:
        """Return a weight of all models, ``[repetitions, settings, *weight]``, of the first sample."""
        repetitions, settings, _ = self.shape
        return np.stack(
            [
                np.stack([self._weights[each, setting, 0][name].double().numpy() for setting in range(settings)])
                for each in range(repetitions)
            ]
        )

    def outputs(self, repetition: int, part: Literal["train", "val", "test"]) -> Tensor:
        """Return float64 ``[settings, samples, rows, outputs]`` on a part of a repetition's data."""
        inputs, model = getattr(self.data[repetition], part).tensor, self._models[repetition]
        _, settings, samples = self.shape
        with torch.no_grad():
            found = [
                functional_call(model, dict(self._weights[repetition, setting, sample]), (inputs,))
                for setting, sample in product(range(settings), range(samples))
            ]
        stacked = torch.stack(found).double()
        return stacked.reshape(settings, samples, *stacked.shape[1:])

    def losses(self, part: Literal["train", "val", "test"]) -> Floats:
        """Return the mean loss on a part, ``[repetitions, settings]``, of the first sample."""
        return np.array([self._losses(repetition, part).mean(-1) for repetition in range(len(self.data))])

    def chosen(self, settings: list[int]) -> list[int]:
        """Return, for each repetition, that of ``settings`` with the lowest validation loss."""
        return [settings[int(row.argmin())] for row in self.losses("val")[:, settings]]

    def strongest(self, settings: list[int]) -> list[int]:
        """Return, for each repetition, the last of ``settings`` whose validation loss is within one
        standard error, over rows, of the lowest: the rule for finding features.

        Source: Hastie, Tibshirani, Friedman (2009), The elements of statistical learning, section 7.10.
        """
        found = []
        for repetition in range(len(self.data)):
            losses = self._losses(repetition, "val")[settings]
            more = losses - losses[losses.mean(-1).argmin()]
            within = more.mean(-1) <= more.std(-1, ddof=1) / math.sqrt(more.shape[-1])
            found.append(settings[int(np.flatnonzero(within)[-1])])
        return found

    def _losses(self, repetition: int, part: Literal["train", "val", "test"]) -> Floats:
        """Return the loss of each row, ``[settings, rows]``."""
        data = self.data[repetition]
        targets, task = getattr(data, part).targets, data.criterion
        outputs = self.outputs(repetition, part)[:, 0]
        return np.stack([task.losses(task.align(each, targets), targets).numpy() for each in outputs])


def train(setup: Setup, repetitions: int, on_progress: Callable[[int, int], None] | None = None) -> Trainings:
    """Train all settings in all repetitions, fused.

    Args:
        setup: What is trained.
        repetitions: >= 2.
        on_progress: Called with the number of epochs that are trained, and of those of all trainings.
    """
    data = [load({**setup.data, setup.drawn: repetition}) for repetition in range(repetitions)]
    samples = [resampled(each, setup.samples, "disjoint") if setup.samples > 1 else [each] for each in data]
    recipe = Recipe(
        optimizer_config("adam", setup.lr), scheduler_config("CosineAnnealingLR"), None, 32, _STEPS, setup.epochs
    )
    measure = MeasureSettings(every=max(1, setup.epochs // 10), per_layer=False)
    keys = list(product(range(repetitions), range(len(setup.settings)), range(setup.samples)))
    jobs = {}
    for number, (repetition, setting, sample) in enumerate(keys):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(repetition)
            model = setup.model(data[repetition])
        part = samples[repetition][sample]
        cocktail = Cocktail(name_members(setup.settings[setting]), repetition, part.task)
        jobs[number] = Experiment(model, cocktail, part, recipe, measure)
    epochs: dict[int, int] = {}

    def count(number: int, progress: Progress) -> None:
        epochs[number] = progress.epoch
        if on_progress is not None:
            on_progress(sum(epochs.values()), len(jobs) * setup.epochs)

    with tempfile.TemporaryDirectory() as folder:
        trained = train_together(jobs, Path(folder), count)
        weights = {keys[number]: each.weights() for number, each in trained.items()}
    return Trainings(setup, data, weights)

"""What fused.py times: the jobs, one of them alone, and the matrix products of all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reglab import data, models
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import L1, L2, Cocktail
from reglab.training.experiment import Experiment, build_trainer
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo

BATCH = 64


@dataclass(frozen=True)
class Case:
    """A data set, a model's config, and how its jobs differ: by strength."""

    data: DataSet
    model: Mapping[str, Any]
    device: torch.device

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return models.build(self.model, self.data.input_shape, self.data.outputs)

    def experiment(self, number: int, epochs: int = 1) -> Experiment:
        cocktail = Cocktail({"l1": L1(1e-5 * 1.1**number), "l2": L2(1e-4 * 1.1**number)}, 0, self.data.task)
        recipe = Recipe({"_target_": "torch.optim.Adam", "lr": 1e-3}, {}, None, BATCH, 32, epochs)
        kind = "gpu" if self.device.type == "cuda" else "cpu"
        return Experiment(self.build(), cocktail, self.data, recipe, MeasureSettings(), {"accelerator": kind})


def _device() -> torch.device:
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def mlp() -> Case:
    node = {"_target_": "reglab.models.MLP", "width": 64, "depth": 1}
    return Case(data.load({"name": "digits"}), node, _device())


def cnn() -> Case:
    node = {"_target_": "reglab.models.CNN", "channels": [32, 64], "norm": "batch"}
    return Case(data.load({"name": "digits", "shape": "image"}), node, _device())


def solo_steps(case: Case) -> Callable[[int], None]:
    """Return a function that takes so many steps of one job, as its training step does inside a Lightning batch."""
    job = case.experiment(0)
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    trainer = build_trainer(job, [])
    trainer.fit(module, train_dataloaders=module.loader())  # an epoch: everything is set up as Lightning does
    module.to(case.device)
    module.on_fit_start()
    rows = next(iter(module.loader()))[0]

    def run(steps: int) -> None:
        module.training_step([rows] * steps, 0)
        module.terms.take()

    run(2)
    return run


def products(case: Case, members: int) -> Callable[[int], None]:
    """Return a function that does the members' matrix products of so many steps: forward, and both gradients."""
    model = case.build()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    inputs = [torch.randn(members, BATCH, layer.in_features, device=case.device) for layer in layers]
    inputs[0] = inputs[0][0].contiguous()  # all members see the same batch
    weights = [torch.randn(members, layer.in_features, layer.out_features, device=case.device) for layer in layers]
    slopes = [torch.randn(members, BATCH, layer.out_features, device=case.device) for layer in layers]

    def run(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                for number, (given, weight, slope) in enumerate(zip(inputs, weights, slopes, strict=True)):
                    given @ weight
                    given.mT @ slope
                    if number:
                        slope @ weight.mT

    run(2)
    return run

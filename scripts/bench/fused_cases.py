"""What fused.py times: the jobs, one of them alone, and the matrix products of all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from reglab import data, models
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import L1, L2, Cocktail
from reglab.training.experiment import Experiment
from reglab.training.fused.convolution import choose, convolution
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo
from reglab.training.trainer import build_trainer

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
    # An epoch: everything is set up as Lightning does.
    trainer.fit(module, train_dataloaders=module.loader())
    module.to(case.device)
    module.on_fit_start()
    rows = next(iter(module.loader()))[0]

    def run(steps: int) -> None:
        module.training_step([rows] * steps, 0)
        module.terms.take()

    run(2)
    return run


def products(case: Case, members: int, narrow: bool = False) -> Callable[[int], None]:
    """Return a function that does the members' matrix products of so many steps.

    Forward, and both gradients.

    narrow: factors as torch keeps weights, [outputs, inputs], and in the order that is quickest for
    few outputs.
    """
    model = case.build()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    inputs = [torch.randn(members, BATCH, layer.in_features, device=case.device) for layer in layers]
    inputs[0] = inputs[0][0].expand(members, -1, -1)  # all members see the same batch
    shapes = [(layer.out_features, layer.in_features) if narrow else layer.weight.mT.shape for layer in layers]
    weights = [torch.randn(members, *shape, device=case.device) for shape in shapes]
    slopes = [torch.randn(members, BATCH, layer.out_features, device=case.device) for layer in layers]

    def run(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                for number, (given, weight, slope) in enumerate(zip(inputs, weights, slopes, strict=True)):
                    _ = (weight @ given.mT, slope.mT @ given) if narrow else (given @ weight, given.mT @ slope)
                    if number:
                        _ = slope @ (weight if narrow else weight.mT)

    run(2)
    return run


def convolutions(case: Case, members: int) -> Callable[[int], None]:
    """Return a function that does the members' convolutions of so many steps, lowered as a pack has them chosen."""
    model, found = case.build(), []
    rows = case.data.train.inputs[:BATCH]
    paths = {module: path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    chosen = choose(model, members, tuple(rows.shape), case.device, torch.float32)
    for layer in paths:
        layer.register_forward_hook(lambda layer, given, out: found.append((layer, given[0].shape, out.shape)))
    model(rows)
    jobs = [_convolution(layer, chosen[paths[layer]], members, case.device, *shapes) for layer, *shapes in found]
    jobs[0] = _convolution(found[0][0], chosen[paths[found[0][0]]], members, case.device, *found[0][1:], first=True)

    def run(steps: int) -> None:
        for _ in range(steps):
            for job in jobs:
                job()

    run(2)
    return run


def _convolution(
    layer: nn.Conv2d,
    lowering: str,
    members: int,
    device: torch.device,
    inputs: torch.Size,
    outputs: torch.Size,
    first: bool = False,
) -> Callable[[], object]:
    """Return one layer's convolution of all members, forward and backward. first: nobody wants the inputs' gradient."""
    weight, given, slope = (
        torch.randn(members, *shape, device=device) for shape in (layer.weight.shape, inputs, outputs)
    )
    given = given[0] if first else given  # all members see the same batch

    def forward(weight: Tensor, given: Tensor) -> Tensor:
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return convolution(given, weight, None, *settings, lowering)

    def member(weight: Tensor, given: Tensor, slope: Tensor) -> object:
        if first:
            return vjp(lambda weight: forward(weight, given), weight)[1](slope)
        return vjp(forward, weight, given)[1](slope)

    both = vmap(member, in_dims=(0, None if first else 0, 0))
    return lambda: both(weight, given, slope)

"""A bare training loop around a cocktail: what the contract asks of whoever trains, without
Lightning.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.optimizers.lion import Lion
from reglab.regularizers import Batch, Cocktail, Outcome, Regularizer
from reglab.training.step_size import LearningRates, StepSizes

Loss = Callable[[Tensor, Tensor], Tensor]


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """The plain squared error of each example, [rows]; outputs are [rows, 1]."""
    return (outputs.squeeze(1) - targets).square()


def halved(outputs: Tensor, targets: Tensor) -> Tensor:
    """scikit-learn's data loss: the squared error halved."""
    return squared(outputs, targets) / 2


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Loop:
    """Trains ``model`` under ``members`` with any optimizer of torch, one ``step`` at a time."""

    def __init__(
        self,
        model: nn.Module,
        members: Mapping[str, Regularizer],
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        loss: Loss = halved,
        task: str = "regression",
        seed: int = 0,
        clip: float | None = None,
    ) -> None:
        self.clip = clip
        self.cocktail = Cocktail(members, seed, task)
        self.model = self.cocktail.prepare(model)
        self.weights = dict(self.model.named_parameters())
        self.optimizer = optimizer(self.weights.values())
        self.sizes = StepSizes(self.model, self.optimizer)
        self.rates = LearningRates(self.model, self.optimizer)
        self.objective = self.cocktail.objective(loss)

    def step(self, inputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Outcome:
        index = torch.arange(len(inputs)) if index is None else index
        batch = Batch(inputs, [(torch.ones((), dtype=inputs.dtype), targets)], index)
        self.cocktail.keys.index = index

        def plain(offset: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
            local = {name: self.weights[name].detach().clone() for name in offset or {}}
            with torch.no_grad():
                for name, step in (offset or {}).items():
                    self.weights[name].add_(step)
            outcome = self.objective(self.model, batch)
            for name, penalty in self.cocktail.penalties(self.weights).items():
                outcome = outcome.plus(name, penalty)
            gradients = torch.autograd.grad(outcome.loss, list(self.weights.values()), allow_unused=True)
            with torch.no_grad():
                for name, weight in local.items():
                    self.weights[name].copy_(weight)
            return {
                name: gradient for name, gradient in zip(self.weights, gradients, strict=True) if gradient is not None
            }, outcome

        gradients, outcome = self.cocktail.gradient(plain)(None)
        for name, weight in self.weights.items():
            weight.grad = gradients.get(name)
        self.cocktail.before_step(self.model, self.rates)
        factor = 1.0
        if self.clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), self.clip)
            factor = min(1.0, self.clip / (float(norm) + 1e-6))
        self.sizes.begin(factor)
        self.optimizer.step()
        self.cocktail.after_step(self.model, self.sizes)
        self.cocktail.keys.step.add_(1)
        return outcome

    def run(self, inputs: Tensor, targets: Tensor, steps: int) -> "Loop":
        """Take full-batch steps."""
        for _ in range(steps):
            self.step(inputs, targets)
        return self


def least_squares(rows: int = 100, features: int = 12, informative: int = 4) -> tuple[Tensor, Tensor]:
    """Return a well-conditioned design [rows, features] and a noisy target [rows], float64."""
    generator = torch.Generator().manual_seed(3)
    design = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    coefficients = torch.zeros(features, dtype=torch.float64)
    coefficients[:informative] = torch.tensor([2.0, -1.5, 1.0, -0.5], dtype=torch.float64)[:informative]
    noise = torch.randn(rows, generator=generator, dtype=torch.float64)
    return design, design @ coefficients + 0.3 * noise


def linear(features: int, outputs: int = 1, bias: bool = False) -> nn.Linear:
    """Return a float64 linear model, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(features, outputs, bias=bias, dtype=torch.float64)


# name: (optimizer, steps after which it stands still to 1e-9 on least_squares)
OPTIMIZERS: dict[str, tuple[Callable[[Iterable[Tensor]], Optimizer], int]] = {
    "sgd": (lambda weights: torch.optim.SGD(weights, lr=0.6), 80),
    "momentum": (lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9), 420),
    "nesterov": (lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True), 260),
    "adam": (lambda weights: torch.optim.Adam(weights, lr=0.05, betas=(0.8, 0.9)), 260),
    "adamw": (lambda weights: torch.optim.AdamW(weights, lr=0.05, betas=(0.8, 0.9), weight_decay=0), 260),
    "amsgrad": (lambda weights: torch.optim.Adam(weights, lr=0.2, betas=(0.8, 0.9), amsgrad=True), 400),
    "rmsprop": (lambda weights: torch.optim.RMSprop(weights, lr=0.01, alpha=0.9), 640),
    "adagrad": (lambda weights: torch.optim.Adagrad(weights, lr=0.5), 200),
    "adamax": (lambda weights: torch.optim.Adamax(weights, lr=0.05, betas=(0.8, 0.9)), 400),
    "nadam": (lambda weights: torch.optim.NAdam(weights, lr=0.05, betas=(0.8, 0.9)), 260),
    "radam": (lambda weights: torch.optim.RAdam(weights, lr=0.05, betas=(0.8, 0.9)), 400),
    "lion": (lambda weights: Lion(weights, lr=0.01, betas=(0.8, 0.9)), 640),
    "asgd": (lambda weights: torch.optim.ASGD(weights, lr=0.6, lambd=0), 80),
}

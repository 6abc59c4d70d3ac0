"""Full-batch proximal gradient steps at the end of training, to remove minibatch noise."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.data import Part
from reglab.distributed.sharded_module import Shardable
from reglab.measures import example_losses
from reglab.regularizers import Cocktail, overrides
from reglab.tasks import Task

Tensors = Mapping[str, Tensor]
_ROWS = 8192  # of one pass
_HALVINGS = 40
_NOISE = 1000  # roundings that the loss may be off by


@dataclass(frozen=True)
class Polished:
    """Result of polishing.

    Args:
        steps: That were taken.
        before, after: The smooth part of the objective.
    """

    steps: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.steps} full-batch proximal steps, loss with penalties {self.before:.6g} to {self.after:.6g}"


def check_polish(cocktail: Cocktail, optimizer: Optimizer, ranks: int) -> None:
    """Raise UserError where training does not minimize a loss with penalties over all training
    rows.

    Args:
        cocktail: The regularizers.
        optimizer: Of the training.
        ranks: Number of devices.
    """
    for name, member in cocktail.named_regularizers():
        hooks = ("on_model", "on_objective", "on_gradient", "before_step", "evaluating", "on_validation")
        if any(overrides(member, hook) for hook in hooks):
            raise UserError(
                f"trainer.polish_steps works only with penalties of the weights, and {name} is none; leave one of the "
                "two out"
            )
    if not any(member.proximal for _, member in cocktail.named_regularizers()):
        raise UserError(
            "trainer.polish_steps is for proximal methods: add regularizer=l1 or elastic_net, or leave it out"
        )
    if any(group.get("weight_decay") for group in optimizer.param_groups):
        raise UserError("trainer.polish_steps ignores optimizer.weight_decay; use regularizer=[l1,l2] instead")
    if ranks > 1:
        raise UserError(f"trainer.polish_steps works on one device, got {ranks}; use trainer.devices=1")


def polish(module: Shardable, part: Part, task: Task | str, steps: int) -> Polished:
    """Take up to ``steps`` accelerated proximal gradient steps on the whole of ``part``, in
    evaluation mode.

    Each step's length is found by backtracking, so the quadratic model with it bounds the smooth
    part from above. The extrapolation starts anew where it leads uphill. It ends early where no
    weight moves any more.

    Args:
        module: Whose weights are moved.
        part: All training rows.
        task: Which decides the loss.
        steps: At most so many.

    Returns:
        Steps taken, and the objective before and after.

    Source:
        Beck & Teboulle (2009), A fast iterative shrinkage-thresholding algorithm for linear inverse
        problems; O'Donoghue & Candes (2015), Adaptive restart for accelerated gradient schemes.
    """
    weights, training = module.local_parameters.weights, module.model.training
    module.model.eval()
    smooth = _Smooth(module, part, task)
    now = {name: weight.detach().clone() for name, weight in weights.items()}
    before, _ = smooth(now, gradients=False)
    value, length, speed, last, taken = before, 1.0, 1.0, now, 0
    try:
        for _ in range(steps):
            faster = (1 + (1 + 4 * speed**2) ** 0.5) / 2
            ahead = {name: it + (speed - 1) / faster * (it - last[name]) for name, it in now.items()}
            result = _step(smooth, module, ahead, length)
            if result is None:
                if last is now:
                    break
                last, speed, length = now, 1.0, 1.0
                continue
            moved, value, length = result
            uphill = sum(((ahead[name] - it) * (it - now[name])).sum() for name, it in moved.items())
            still = all(torch.equal(it, now[name]) for name, it in moved.items())
            speed = 1.0 if float(uphill) > 0 else faster
            last, now, taken = now, moved, taken + 1
            if still and speed == 1.0:
                break
    finally:
        _put(weights, now)
        module.model.train(training)
    return Polished(taken, before, value)


def _step(
    smooth: "_Smooth", module: Shardable, ahead: Tensors, length: float
) -> tuple[dict[str, Tensor], float, float] | None:
    """Return the weights after one step from ``ahead``, the smooth part there, and the length to
    try next.

    None where no length leads anywhere, which is where rounding ends all progress.
    """
    weights = module.local_parameters.weights
    value, gradients = smooth(ahead, gradients=True)
    for _ in range(_HALVINGS):
        _put(weights, {name: it - length * gradients[name] if name in gradients else it for name, it in ahead.items()})
        sizes = {name: torch.tensor(length, dtype=torch.float64, device=it.device) for name, it in ahead.items()}
        module.cocktail.after_step(module.model, sizes)
        moved = {name: weight.detach().clone() for name, weight in weights.items()}
        change = {name: it - ahead[name] for name, it in moved.items()}
        square = sum(float(it.square().sum()) for it in change.values()) / length
        reached, after = smooth(moved, gradients=True)
        if square > _NOISE * torch.finfo(next(iter(ahead.values())).dtype).eps * abs(value):
            fits = reached <= value + _inner(gradients, change) + square / 2
        else:  # lost in rounding; the curvature along the step says the same of a quadratic, to more digits
            fits = _inner(after, change) - _inner(gradients, change) <= square
        if fits:
            return moved, reached, 1.2 * length
        length /= 2
    return None


def _inner(gradients: Tensors, change: Tensors) -> float:
    return sum(float((gradient * change[name]).sum()) for name, gradient in gradients.items())


class _Smooth:
    """The loss of all training rows with the penalties in it, and its gradient: a function of the
    weights.
    """

    def __init__(self, module: Shardable, part: Part, task: Task | str) -> None:
        self._module, self._task = module, task
        part = part.to(module.device)
        dtype = next(iter(module.local_parameters.weights.values())).dtype
        self._inputs, self._targets = (
            values.to(dtype) if values.is_floating_point() else values for values in (part.tensor, part.targets)
        )
        self._weights = part.weights.to(dtype)

    def __call__(self, at: Tensors, gradients: bool) -> tuple[float, dict[str, Tensor]]:
        module, weights = self._module, self._module.local_parameters.weights
        _put(weights, at)
        total, rows = 0.0, len(self._inputs)
        grads = {name: torch.zeros_like(weight) for name, weight in at.items()} if gradients else {}
        with torch.set_grad_enabled(gradients):
            for first in range(0, rows, _ROWS):
                part = slice(first, first + _ROWS)
                losses = example_losses(module.model(self._inputs[part]), self._targets[part], self._task)
                total += self._add((self._weights[part] * losses).sum() / rows, grads)
            for penalty in module.cocktail.penalties(weights).values():
                total += self._add(penalty, grads)
        return total, grads

    def _add(self, term: Tensor, grads: dict[str, Tensor]) -> float:
        if grads:
            weights = [self._module.local_parameters.weights[name] for name in grads]
            for name, gradient in zip(grads, torch.autograd.grad(term, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    grads[name] += gradient.to_dense() if gradient.is_sparse else gradient
        return float(term.detach())


@torch.no_grad()
def _put(weights: Tensors, values: Tensors) -> None:
    for name, value in values.items():
        weights[name].copy_(value)

"""Muon for matrices, AdamW for all other weights, under one learning rate."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.optimizers.adam import adam_plain
from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Scale, Tensors, common

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan's, whose iteration brings singular values near 1 in five steps
_STEPS = 5


class Muon(Optimizer):
    """Steps of a matrix are its momentum with all singular values near 1, times ``0.2 sqrt(rows or
    columns, the more)``, so that they are as long as AdamW's, which the other weights take.

    Embeddings and the last layer are commonly left to AdamW: a param group with ``matrices=False``.

    Args:
        params: Weights, or param groups.
        lr: The learning rate, as for AdamW.
        momentum: Of matrices, in [0, 1); Nesterov's.
        betas: Of AdamW, each in [0, 1).
        eps: Of AdamW.
        weight_decay: Decoupled, of all weights, >= 0.
        matrices: Whether Muon takes the weights with two axes.

    Source:
        Jordan (2024), Muon: an optimizer for hidden layers in neural networks; the length of a step:
        Liu et al. (2025), Muon is scalable for LLM training, arXiv:2502.16982.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        matrices: bool = True,
    ) -> None:
        shares = (momentum, *betas)
        if not lr > 0 or not weight_decay >= 0 or len(betas) != 2 or not all(0 <= share < 1 for share in shares):
            raise UserError(
                f"Muon needs lr > 0, momentum and two betas in [0, 1) and weight_decay >= 0, got lr={lr}, "
                f"momentum={momentum}, betas={list(betas)}, weight_decay={weight_decay}"
            )
        defaults = {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "matrices": matrices})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            numbers = _RULE.numbers(group)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    names = ("momentum_buffer",) if _is_matrix(weight, group["matrices"]) else ("exp_avg", "exp_avg_sq")
                    state.update({name: torch.zeros_like(weight) for name in names})
                    state["step"] = torch.zeros(())
                state["step"] += 1
                update = with_matrices if group["matrices"] else without_matrices
                update(weight, weight.grad, state, _RULE.at(numbers, int(state["step"])))  # type: ignore[arg-type]  # floats
        return loss


class MuonRule(ByStep):
    """``reglab.optimizers.muon.Muon``."""

    serves: ClassVar[tuple[str, ...]] = ("reglab.optimizers.muon.Muon",)
    refused: ClassVar[str] = "it orthogonalizes the step of a whole matrix, so that no coordinate has its own"
    by_element: ClassVar[bool] = False
    keys: ClassVar[tuple[str, ...]] = ("momentum", "eps")

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        raise UserError(self.refused)

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        beta1, beta2, rate = numbers["beta1"], numbers["beta2"], numbers["lr"]
        return dict(numbers) | {
            "gain": 1 - numbers["momentum"],
            "gain1": 1 - beta1,
            "gain2": 1 - beta2,
            "step": rate / (1 - beta1**step),
            "root": (1 - beta2**step) ** -0.5,
            "kept": 1 - rate * numbers["weight_decay"],
            "size": rate,
        }

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        update = with_matrices if common(groups, "matrices") else without_matrices
        return FusedRule(("momentum_buffer", "exp_avg", "exp_avg_sq"), self.step_numbers, update)


_RULE = MuonRule()


def with_matrices(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of Muon for a matrix, of AdamW for any other weight."""
    if not _is_matrix(weight, True):
        return without_matrices(weight, gradient, state, numbers)
    weight.mul_(numbers["kept"])
    mean = state["momentum_buffer"]
    mean.add_(numbers["gain"] * (gradient - mean))
    ahead = gradient + numbers["momentum"] * (mean - gradient)
    weight.sub_(numbers["lr"] * (0.2 * math.sqrt(max(weight.shape))) * orthogonalized(ahead))
    return None


def without_matrices(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of AdamW."""
    weight.mul_(numbers["kept"])
    adam_plain(weight, gradient, state, numbers)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return ``matrix`` with singular values near 1, by five steps of a quintic Newton-Schulz
    iteration.

    Args:
        matrix: ``[rows, columns]``.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.mT if tall else matrix
    found = found / torch.linalg.vector_norm(found).clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = found @ found.mT
        found = _A * found + (_B * gram + _C * (gram @ gram)) @ found
    answer: Tensor = found.mT if tall else found
    return answer


def _is_matrix(weight: Tensor, matrices: bool) -> bool:
    return matrices and weight.dim() == 2

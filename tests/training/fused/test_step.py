"""Parts of one step: clipping, weights that no loss reaches, and buffers that the forward pass
moves.
"""

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import nn

from reglab.training.fused.pack import Pack
from reglab.training.fused.step import LossInspection, clipped, inspect_loss


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clipping_is_torchs(limit: float) -> None:
    torch.manual_seed(0)
    gradients = {"a": torch.randn(3, 2), "b": torch.randn(4)}
    weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients.values()]
    for weight, gradient in zip(weights, gradients.values(), strict=True):
        weight.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(weights, limit)
    actual, factor = clipped(gradients, torch.tensor(limit, dtype=torch.float64))
    assert float(factor) == pytest.approx(min(1.0, limit / float(norm)), rel=1e-5)
    for weight, gradient in zip(weights, actual.values(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-6, atol=0)


class _Net(nn.Module):
    """A model with a layer that no output depends on, and with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.idle = nn.BatchNorm1d(harness.FEATURES), nn.Linear(2, 2)
        self.head = nn.Linear(harness.FEATURES, harness.CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(inputs))


def inspection(name: str) -> LossInspection:
    pack = Pack([fused.job(harness.members(name), model=_Net()) for _ in range(2)])
    pack.to(torch.device("cpu"))
    before = pack.stack.clone()
    actual = inspect_loss(pack.base, pack.task, pack.rule, pack.train_rows.batch(torch.arange(5)))
    for group, tensors in before.state_dict().items():
        harness.assert_same_bits(tensors, pack.stack.state_dict()[group])
    return actual


def test_idle_are_the_weights_that_neither_data_loss_nor_penalty_reaches() -> None:
    assert inspection("none").unreached == {"model.idle.weight", "model.idle.bias"}
    assert inspection("l2").unreached == {"model.idle.bias"}


def test_moved_are_the_statistics_of_batchnorm_and_no_number_of_a_regularizer() -> None:
    statistics = {f"model.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert inspection("mixup").mutated == inspection("ema").mutated == statistics

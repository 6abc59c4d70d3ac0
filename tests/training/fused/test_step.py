"""Parts of one step: clipping, and weights that no loss reaches."""

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import nn

from reglab.training.fused.pack import Pack
from reglab.training.fused.step import clipped, idle_weights


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clipping_is_torchs(limit: float) -> None:
    torch.manual_seed(0)
    slopes = {"a": torch.randn(3, 2), "b": torch.randn(4)}
    weights = [nn.Parameter(torch.zeros_like(slope)) for slope in slopes.values()]
    for weight, slope in zip(weights, slopes.values(), strict=True):
        weight.grad = slope.clone()
    torch.nn.utils.clip_grad_norm_(weights, limit)
    for weight, slope in zip(weights, clipped(slopes, torch.tensor(limit, dtype=torch.float64)).values(), strict=True):
        torch.testing.assert_close(slope, weight.grad, rtol=1e-6, atol=0)


def test_idle_are_the_weights_that_neither_data_loss_nor_penalty_reaches() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.idle = nn.Linear(harness.FEATURES, harness.CLASSES), nn.Linear(2, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(inputs)

    def idle(name: str) -> set[str]:
        pack = Pack([fused.job(harness.members(name), model=Net()) for _ in range(2)])
        pack.to(torch.device("cpu"))
        return set(idle_weights(pack.base, pack.task, pack.pool.batch(torch.arange(5))))

    assert idle("none") == {"model.idle.weight", "model.idle.bias"}
    assert idle("l2") == {"model.idle.bias"}

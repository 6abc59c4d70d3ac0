"""Clipping beside proximal steps under the callback, against loops written by hand; clipping by
value.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from callback.own_module import LIGHTNING_WARNS, OwnModule, assert_same, loaders, sgd, trainer, weights_of
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import L1, L2, ElasticNet, Regularizer

pytestmark = LIGHTNING_WARNS
CLIP, STRENGTH = 0.3, 0.03


def heavy(weights: Iterable[Tensor]) -> Optimizer:
    return SGD(weights, lr=0.1, momentum=0.9)


class Clips(OwnModule):
    """Clips by itself, under manual optimization."""

    algorithm = "norm"

    def __init__(self, make: Any) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        self.clip_gradients(optimizer, gradient_clip_val=CLIP, gradient_clip_algorithm=self.algorithm)
        optimizer.step()


def by_hand(make: Callable[[Iterable[Tensor]], Optimizer], step: float, l2: float, inside: bool) -> OwnModule:
    """Train two epochs: gradient clipped, ridge inside of what is clipped or scaled like it, then a
    soft threshold.
    """
    module = OwnModule(make)
    optimizer = make(module.parameters())
    for _ in range(2):
        for inputs, targets in loaders()[0]:
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs), targets).backward()
            matrices = [weight for weight in module.parameters() if weight.ndim == 2]
            ridge = [l2 * weight.detach() for weight in matrices]
            if inside:
                for weight, gradient in zip(matrices, ridge, strict=True):
                    weight.grad += gradient
            norm = torch.sqrt(sum(weight.grad.square().sum() for weight in module.parameters()))
            factor = min(1.0, CLIP / (float(norm) + 1e-6))
            for weight in module.parameters():
                weight.grad *= factor
            if not inside:
                for weight, gradient in zip(matrices, ridge, strict=True):
                    weight.grad += factor * gradient
            optimizer.step()
            with torch.no_grad():
                for weight in matrices:
                    limit = STRENGTH * step * factor
                    weight.copy_(weight.sign() * (weight.abs() - limit).clamp(min=0))
    return module


@pytest.mark.parametrize("make, step", [(sgd, 0.1), (heavy, 1.0)])
@pytest.mark.parametrize("module", [OwnModule, Clips])
def test_a_proximal_step_and_a_penalty_are_scaled_as_the_gradient_is(make: Any, step: float, module: Any) -> None:
    trained, local = module(make), module is OwnModule
    callback = Regularize([L1(STRENGTH), L2(0.2)], "classification", every=None)
    run = trainer([callback], gradient_clip_val=CLIP if local else None)
    run.fit(trained, *loaders())
    assert_same(weights_of(trained), weights_of(by_hand(make, step, 0.2, inside=local)), 1e-10)
    assert "clip_gradients" not in vars(run.precision_plugin)


class Unknown(L1):
    def slope_at_zero(self) -> None:
        return None


@pytest.mark.parametrize("member", [L1(0.5), ElasticNet(1.0, 0.5), Unknown(1e-4)])
@pytest.mark.parametrize("manual", [True, False])
def test_clipping_by_value_below_the_strength_is_refused(
    member: Regularizer, manual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clips, "algorithm", "value")
    options = {} if manual else {"gradient_clip_val": CLIP, "gradient_clip_algorithm": "value"}
    with pytest.raises(UserError, match=r"clipped by value to 0\.3, and .* takes proximal steps.*clip by norm"):
        fitted(Clips(sgd) if manual else OwnModule(), [member], **options)


def fitted(module: pl.LightningModule, members: list[Regularizer], **options: Any) -> None:
    trainer([Regularize(members, "classification", every=None)], **options).fit(module, *loaders())


@pytest.mark.parametrize("members", [[L1(CLIP)], [L2(5.0)], [ElasticNet(1.0, 0.2)]])
def test_clipping_by_value_above_the_strength_and_beside_penalties_is_not(members: list[Regularizer]) -> None:
    fitted(OwnModule(lambda w: Adam(w)), members, gradient_clip_val=CLIP, gradient_clip_algorithm="value")

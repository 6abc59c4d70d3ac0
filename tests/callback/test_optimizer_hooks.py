"""A cocktail's part of an optimizer step in a foreign loop, against loops written by hand in plain
PyTorch.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop, Rprop

from callback.own_module import (
    LIGHTNING_WARNS,
    ManualModule,
    OwnModule,
    assert_same,
    loaders,
    sgd,
    trainer,
    weights_of,
)
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, L2, Dropout, Regularizer, WeightDecay

pytestmark = LIGHTNING_WARNS
TASK = "classification"
STRENGTH = 0.03


def momentum(weights: Iterable[Tensor]) -> Optimizer:
    return SGD(weights, lr=0.1, momentum=0.9, dampening=0.2)


def adam(weights: Iterable[Tensor]) -> Optimizer:
    return Adam(weights, lr=0.01)


def adamw(weights: Iterable[Tensor]) -> Optimizer:
    return AdamW(weights, lr=0.01, weight_decay=0.1)


def rmsprop(weights: Iterable[Tensor]) -> Optimizer:
    return RMSprop(weights, lr=0.01)


def fit(module: pl.LightningModule, members: list[Regularizer], **options: Any) -> Regularize:
    callback = Regularize(members, TASK, every=None)
    trainer([callback], **options).fit(module, *loaders())
    return callback


def by_hand(
    make: Callable[[Iterable[Tensor]], Any],
    l2: float = 0.0,
    accumulate: int = 1,
    clip: float | None = None,
    after: Callable[[OwnModule, Optimizer], None] = lambda module, optimizer: None,
) -> OwnModule:
    """Train OwnModule for two epochs by a plain loop with ridge in the loss."""
    module = OwnModule(make)
    optimizer = make(module.parameters())
    for _ in range(2):
        batches = list(loaders()[0])
        for start in range(0, len(batches), accumulate):
            optimizer.zero_grad()
            for inputs, targets in batches[start : start + accumulate]:
                loss = functional.cross_entropy(module(inputs), targets)
                for weight in module.parameters():
                    if weight.ndim == 2:
                        loss = loss + l2 / 2 * (weight * weight).sum()
                (loss / accumulate).backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            after(module, optimizer)
    return module


@pytest.mark.parametrize("make", [sgd, momentum, adam, adamw, rmsprop])
@pytest.mark.parametrize("accumulate, clip", [(1, None), (3, None), (1, 0.3), (3, 0.3)])
def test_a_penalty_equals_the_term_in_the_loss(make: Any, accumulate: int, clip: float | None) -> None:
    module = OwnModule(make)
    fit(module, [L2(STRENGTH)], accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    assert_same(weights_of(module), weights_of(by_hand(make, STRENGTH, accumulate, clip)), 1e-10)


def test_clipping_sees_the_penalty() -> None:
    strong = 10.0
    module = OwnModule()
    fit(module, [L2(strong)], gradient_clip_val=0.3)
    assert_same(weights_of(module), weights_of(by_hand(sgd, strong, clip=0.3)), 1e-10)


@pytest.mark.parametrize("wrapped", [True, False], ids=["lightning's step", "the optimizer's own step"])
def test_manual_optimization_gets_penalty_and_decay(monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    monkeypatch.setattr(ManualModule, "wrapped", wrapped)
    module = ManualModule(adam)
    callback = fit(module, [L2(STRENGTH), WeightDecay(0.1)])

    reference = by_hand(lambda weights: AdamW(_decayed(weights), lr=0.01), STRENGTH)
    assert_same(weights_of(module), weights_of(reference), 1e-10)
    assert int(callback.cocktail.keys.step) == 6


def test_decay_beside_adam_is_adamw_bit_for_bit() -> None:
    module = OwnModule(adam)
    fit(module, [WeightDecay(0.1)])
    reference = by_hand(lambda weights: AdamW(_decayed(weights), lr=0.01))
    assert_same(weights_of(module), weights_of(reference))


def _decayed(weights: Iterable[Tensor]) -> list[dict[str, Any]]:
    weights = list(weights)
    return [
        {"params": [weight for weight in weights if weight.ndim == 2], "weight_decay": 0.1},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]


def _shrink(module: OwnModule, threshold: Callable[[Tensor], Any]) -> None:
    """Move every weight matrix towards zero by ``threshold(weight)``, and to zero where it would
    cross it.
    """
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                limit = torch.as_tensor(threshold(weight), dtype=weight.dtype).expand_as(weight)
                lower = torch.where(weight < -limit, weight + limit, 0.0)
                weight.copy_(torch.where(weight > limit, weight - limit, lower))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_l1_is_a_proximal_step_with_momentum(accumulate: int) -> None:
    module = OwnModule(momentum)
    fit(module, [L1(STRENGTH)], accumulate_grad_batches=accumulate)
    threshold = STRENGTH * 0.1 * (1 - 0.2) / (1 - 0.9)
    reference = by_hand(momentum, accumulate=accumulate, after=lambda net, _: _shrink(net, lambda weight: threshold))
    assert_same(weights_of(module), weights_of(reference), 1e-10)
    assert any(bool((weight == 0).any()) for weight in module.parameters())


def test_l1_is_a_proximal_step_with_adam() -> None:
    module = OwnModule(adam)
    fit(module, [L1(1.0)])

    def after(net: OwnModule, optimizer: Optimizer) -> None:
        def threshold(weight: Tensor) -> Tensor:
            state = optimizer.state[weight]
            longest = 0.01 * 0.1 / 0.001**0.5  # that a step of this Adam can be
            free = 0.01 / ((state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))).sqrt() + 1e-8)
            return free.clamp(max=2 * longest)

        _shrink(net, threshold)

    assert_same(weights_of(module), weights_of(by_hand(adam, after=after)), 1e-10)
    zeros = [(weight == 0).double().mean() for weight in module.parameters() if weight.ndim == 2]
    assert min(zeros) > 0


def test_an_average_follows_any_optimizer() -> None:
    module = OwnModule(rmsprop)
    callback = fit(module, [EMA(0.9)])
    average = torch.zeros(0)
    updates = 0

    def follow(net: OwnModule, _: Any) -> None:
        nonlocal average, updates
        decay = min(0.9, (1 + updates) / (10 + updates))
        now = net.body[0].weight.detach().clone()
        average = now if updates == 0 else decay * average + (1 - decay) * now
        updates += 1

    by_hand(rmsprop, after=follow)
    with callback.cocktail.evaluating(module):
        torch.testing.assert_close(module.body[0].weight.detach(), average, rtol=0, atol=1e-12)


def test_l1_refuses_an_optimizer_whose_step_it_does_not_know() -> None:
    with pytest.raises(UserError, match="proximal steps do not fit Rprop: its steps grow"):
        fit(OwnModule(Rprop), [L1(1e-3)])


class HalfScaled(OwnModule):
    """Its second batch overflows the gradient scaler."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = functional.cross_entropy(self.body(inputs).float(), targets)
        return loss * float("inf") if batch_idx == 1 else loss


def test_a_step_that_the_scaler_skips_is_no_step() -> None:
    """Three batches of which the second overflows: the same as a loop over the first and
    the third.
    """
    module = HalfScaled()
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=8.0)
    members: list[Regularizer] = [L2(STRENGTH), WeightDecay(0.1), L1(STRENGTH)]
    callback = Regularize(members, TASK, every=None)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer([callback], epochs=1, plugins=[plugin], num_sanity_val_steps=0).fit(module, *loaders())

    reference = OwnModule()
    optimizer = SGD(reference.parameters(), lr=0.1)
    for number, (inputs, targets) in enumerate(loaders()[0]):
        if number == 1:
            continue
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(reference.body(inputs).float(), targets)
        loss.backward()
        for weight in reference.parameters():
            if weight.ndim == 2 and weight.grad is not None:
                weight.grad += STRENGTH * weight.detach()
        with torch.no_grad():
            for weight in reference.parameters():
                weight.mul_(1 - 0.1 * 0.1 if weight.ndim == 2 else 1)
        optimizer.step()
        _shrink(reference, lambda weight: STRENGTH * 0.1)
    assert_same(weights_of(module), weights_of(reference), 1e-10)
    assert int(callback.cocktail.keys.step) == 2


class Skipping(OwnModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx == 1 else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_the_module_skips_is_no_step() -> None:
    module = Skipping()
    callback = fit(module, [L2(STRENGTH), WeightDecay(0.1), L1(STRENGTH), EMA(0.9)], epochs=1)
    assert int(callback.cocktail.keys.step) == 2
    assert float(callback.cocktail.members["ema"].get_buffer("updates")) == 2


class PartlyUnused(OwnModule):
    """Its second layer gets no gradient, as in a module with a part for later."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body[0](inputs)


@pytest.mark.parametrize("make", [sgd, momentum, adam, adamw])
@pytest.mark.parametrize("part", [OwnModule, ManualModule])
def test_weights_that_the_loss_does_not_reach_go_to_zero(make: Any, part: Any) -> None:
    """Loss and penalty together are least where the penalty is; biases have none and stay."""

    class PartlyUnused(part):  # type: ignore[misc, valid-type]  # a class chosen by the test
        def forward(self, inputs: Tensor) -> Tensor:
            return self.body[0](inputs)

    module = PartlyUnused(make)
    before = weights_of(module)
    fit(module, [L1(0.5)], epochs=30)
    assert torch.count_nonzero(module.body[3].weight) == 0
    assert torch.equal(module.body[3].bias, before["body.3.bias"])
    frozen = PartlyUnused(make)
    frozen.body[3].weight.requires_grad_(False)
    fit(frozen, [L1(0.5), WeightDecay(0.5)])
    assert torch.equal(frozen.body[3].weight, before["body.3.weight"])


class OnlyHead(OwnModule):
    """Its optimizer holds the last layer alone; the first is not frozen, but nobody trains it."""

    def configure_optimizers(self) -> Any:
        return self.make(self.body[3].parameters())


@pytest.mark.parametrize("make", [sgd, adam])
def test_weights_that_the_optimizer_does_not_hold_are_left_alone(make: Any) -> None:
    module = OnlyHead(make)
    before = weights_of(module)
    fit(module, [L1(STRENGTH), WeightDecay(0.1)])
    assert torch.equal(module.body[0].weight, before["body.0.weight"])
    assert not torch.equal(module.body[3].weight, before["body.3.weight"])


class ClosureOutside(ManualModule):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        optimizer: Any = self.optimizers(use_pl_optimizer=False)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(self(inputs), targets)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)


def test_a_closure_that_lightning_does_not_see_is_refused() -> None:
    with pytest.raises(UserError, match=r"self\.optimizers\(\)\.step\(closure\)"):
        fit(ClosureOutside(), [L2(STRENGTH)])


def test_dropout_is_the_same_accumulated_or_in_one_batch() -> None:
    accumulated, joint = OwnModule(dropout=0.4), OwnModule(dropout=0.4)
    for module, batch, times in ((accumulated, 8, 2), (joint, 16, 1)):
        callback = Regularize([Dropout(0.3)], TASK, seed=5, every=None)
        trainer([callback], accumulate_grad_batches=times).fit(module, *loaders(batch))
    assert_same(weights_of(accumulated), weights_of(joint), 1e-12)
    assert not torch.allclose(accumulated.body[0].weight, by_hand(sgd).body[0].weight)


class Twice(OwnModule):
    """Compares two passes over one batch, as R-Drop and contrastive methods do."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.passes = [self(batch[0]), self(batch[0])]
        return functional.cross_entropy(self.passes[0], batch[1])


def test_two_passes_over_a_batch_drop_different_units() -> None:
    module = Twice(dropout=0.5)
    fit(module, [EMA(0.9)], epochs=1)
    assert not torch.equal(*module.passes)


def test_hooks_are_gone_after_the_fit() -> None:
    module = OwnModule()
    last = trainer([Regularize([L1(STRENGTH), L2(STRENGTH)], TASK, every=None)])
    last.fit(module, *loaders())
    optimizer = last.optimizers[0]
    before = weights_of(module)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert_same(weights_of(module), before)

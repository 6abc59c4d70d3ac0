"""Several optimizers, one of which is followed: a GAN, against a loop written by hand."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from callback.own_module import LIGHTNING_WARNS, OwnModule, assert_same, loaders, trainer, weights_of
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, L2, MaxNorm, Regularizer, WeightDecay

pytestmark = LIGHTNING_WARNS
LR, SHRINK, RIDGE, DECAY, CAP, CLIP = 0.1, 0.02, 0.05, 0.3, 0.3, 0.05


class GAN(pl.LightningModule):
    """Manual optimization with two optimizers, the discriminator's stepped first, with a clipped gradient."""

    def __init__(self, toggles: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.toggles = toggles
        with torch.random.fork_rng():
            torch.manual_seed(8)
            self.generator, self.discriminator = nn.Linear(6, 6).double(), nn.Linear(6, 1).double()

    def discriminator_loss(self, inputs: Tensor) -> Tensor:
        real, fake = self.discriminator(inputs), self.discriminator(self.generator(inputs).detach())
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def generator_losses(self, inputs: Tensor) -> Tensor:
        return functional.softplus(-self.discriminator(self.generator(inputs)))[:, 0]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        of_generator, of_discriminator = self.optimizers()  # type: ignore[misc]  # two
        losses = (self.discriminator_loss, lambda inputs: self.generator_losses(inputs).mean())
        for optimizer, loss in zip((of_discriminator, of_generator), losses, strict=True):
            if self.toggles:
                self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(loss(batch[0]))
            if optimizer is of_discriminator:
                self.clip_gradients(optimizer, CLIP, "norm")
            optimizer.step()
            if self.toggles:
                self.untoggle_optimizer(optimizer)

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> Any:
        return [SGD(part.parameters(), lr=LR) for part in (self.generator, self.discriminator)]


def by_hand(ridge: bool = True) -> tuple[GAN, list[Tensor]]:
    """Train for two epochs; return the module and the average of its discriminator and generator."""
    gan, averages, updates = GAN(), list[Tensor](), 0
    of_generator, of_discriminator = gan.configure_optimizers()
    for _ in range(2):
        for inputs, _ in loaders()[0]:
            of_discriminator.zero_grad()
            gan.discriminator_loss(inputs).backward()
            nn.utils.clip_grad_norm_(gan.discriminator.parameters(), CLIP)
            of_discriminator.step()
            of_generator.zero_grad()
            loss = gan.generator_losses(inputs).mean()
            (loss + RIDGE / 2 * gan.generator.weight.square().sum() if ridge else loss).backward()
            weight = gan.generator.weight
            if ridge:
                weight.data *= 1 - LR * DECAY
            of_generator.step()
            with torch.no_grad():
                if ridge:
                    weight.copy_(weight.sign() * (weight.abs() - LR * SHRINK).clamp(min=0))
                    weight *= (CAP / weight.norm(dim=1, keepdim=True)).clamp(max=1)
                share = 1 - min(0.9, (1 + updates) / (10 + updates)) if updates else 1.0
                now = [gan.generator.weight, gan.discriminator.weight]
                averages = [(1 - share) * a + share * b for a, b in zip(averages or now, now, strict=True)]
                updates += 1
    return gan, averages


@pytest.mark.parametrize("which", [0, "generator"])
@pytest.mark.parametrize("toggles", [False, True])
def test_the_generators_steps_are_followed_and_the_discriminator_is_left_alone(which: Any, toggles: bool) -> None:
    members: list[Regularizer] = [L2(RIDGE), WeightDecay(DECAY), L1(SHRINK), MaxNorm(CAP), EMA(0.9)]
    loss = {"loss": lambda module, batch: module.generator_losses(batch[0])}
    callback, gan = Regularize(members, optimizer=which, **loss), GAN(toggles)
    trainer([callback]).fit(gan, *loaders())
    reference, averages = by_hand()
    assert_same(weights_of(gan), weights_of(reference), 1e-12)
    assert float(GAN().generator.weight.detach().norm(dim=1).min()) > CAP  # it was capped
    assert float(reference.discriminator.weight.detach().norm()) > CAP  # it would have been capped
    assert int(callback.cocktail.keys.step) == 6
    with callback.cocktail.evaluating(gan):
        torch.testing.assert_close(gan.generator.weight.detach(), averages[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(gan.discriminator.weight.detach(), averages[1], rtol=0, atol=1e-12)
    assert "gap/loss_low" in callback.metrics


def test_the_discriminator_can_be_followed_and_its_clipping_scales_proximal_steps() -> None:
    gan, free = GAN(), by_hand(ridge=False)[0]
    callback = Regularize([L1(SHRINK)], loss=lambda module, batch: module.generator_losses(batch[0]), optimizer=1)
    trainer([callback], epochs=1).fit(gan, *loaders())
    expected = GAN()
    of_generator, of_discriminator = expected.configure_optimizers()
    for inputs, _ in loaders()[0]:
        of_discriminator.zero_grad()
        expected.discriminator_loss(inputs).backward()
        norm = nn.utils.clip_grad_norm_(expected.discriminator.parameters(), CLIP)
        of_discriminator.step()
        with torch.no_grad():
            weight, threshold = expected.discriminator.weight, LR * SHRINK * min(1.0, CLIP / float(norm + 1e-6))
            weight.copy_(weight.sign() * (weight.abs() - threshold).clamp(min=0))
        of_generator.zero_grad()
        expected.generator_losses(inputs).mean().backward()
        of_generator.step()
    assert_same(weights_of(gan), weights_of(expected), 1e-12)
    assert not torch.equal(gan.discriminator.weight, free.discriminator.weight)


@pytest.mark.parametrize(
    "which, words",
    [
        (None, r"gives 2; say whose: Regularize\(..., optimizer=0\), or optimizer='generator'"),
        (2, "optimizer=2: GAN.configure_optimizers gives 2, numbered from 0"),
        ("generater", "is no part of GAN; did you mean 'generator'"),
    ],
)
def test_which_one_must_be_said(which: Any, words: str) -> None:
    callback = Regularize([L1(SHRINK)], loss=lambda module, batch: module.generator_losses(batch[0]), optimizer=which)
    with pytest.raises(UserError, match=words):
        trainer([callback]).fit(GAN(), *loaders())


def test_a_part_that_no_optimizer_holds_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"0 of the 1 optimizers hold weights of body\.0 alone"):
        trainer([Regularize([L1(SHRINK)], "classification", optimizer="body.0")]).fit(OwnModule(), *loaders())

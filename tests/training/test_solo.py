"""The engine's step beside a PyTorch loop written by hand: the same bits, and no more steps than it
says.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from reglab.core.errors import Diverged
from reglab.regularizers import L2, SAM, Dropout
from training.solo_case import ADAM, BATCH, EPOCHS, ROWS, assert_same_bits, batches, blobs, by_engine, by_hand, net

STEPS = len(batches(0))


@pytest.mark.parametrize("steps_per_batch", [1, 3, 1000])
@pytest.mark.parametrize(
    "kind, options",
    [(SGD, {"lr": 0.1}), (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}), (Adam, {"lr": 0.02}),
     (AdamW, {"lr": 0.02, "weight_decay": 0.1})],
)  # fmt: skip
def test_without_members_it_is_the_plain_loop(tmp_path: Path, kind: Any, options: Any, steps_per_batch: int) -> None:
    actual, wanted = net(norm=True), net(norm=True)
    node = {"_target_": f"torch.optim.{kind.__name__}", **options}
    by_engine(actual, tmp_path, optimizer=node, steps_per_batch=steps_per_batch)
    by_hand(wanted, kind(wanted.parameters(), **options))
    assert_same_bits(actual, wanted)


def test_gradients_are_clipped_by_the_norm_of_all(tmp_path: Path) -> None:
    actual, wanted, unclipped = net(), net(), net()
    by_engine(actual, tmp_path, optimizer={"_target_": "torch.optim.SGD", "lr": 0.5}, clip=0.1)
    by_hand(wanted, SGD(wanted.parameters(), lr=0.5), clip=0.1)
    assert_same_bits(actual, wanted)
    by_hand(unclipped, SGD(unclipped.parameters(), lr=0.5))
    assert not torch.equal(unclipped[0].weight, wanted[0].weight)


def test_examples_count_by_their_weights(tmp_path: Path) -> None:
    weights = torch.arange(ROWS) % 3.0
    data, actual, wanted = blobs(weights / weights.mean()), net(), net()
    by_engine(actual, tmp_path, data=data)
    by_hand(wanted, Adam(wanted.parameters(), lr=0.02), data)
    assert_same_bits(actual, wanted)


def test_a_cosine_goes_to_its_end_over_the_whole_run(tmp_path: Path) -> None:
    actual, wanted = net(), net()
    node = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "eta_min": 1e-3, "interval": "step"}
    message = by_engine(actual, tmp_path, scheduler=node, steps_per_batch=2)
    optimizer = Adam(wanted.parameters(), lr=0.02)
    by_hand(wanted, optimizer, scheduler=CosineAnnealingLR(optimizer, EPOCHS * STEPS, 1e-3))
    assert_same_bits(actual, wanted)
    for epoch in range(1, EPOCHS + 1):  # the rate that the last step of the epoch was taken with
        share = (epoch * STEPS - 1) / (EPOCHS * STEPS)
        assert message[epoch]["optimizer/lr"] == pytest.approx(1e-3 + 0.019 * (1 + math.cos(math.pi * share)) / 2)


def test_a_schedule_by_epochs_moves_between_epochs(tmp_path: Path) -> None:
    actual, wanted = net(), net()
    node = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.1, "interval": "epoch"}
    message = by_engine(actual, tmp_path, scheduler=node)
    optimizer = Adam(wanted.parameters(), lr=0.02)
    rates = by_hand(wanted, optimizer, scheduler=StepLR(optimizer, 2, 0.1), by_step=False)
    assert_same_bits(actual, wanted)
    assert [row["optimizer/lr"] for row in message[1:]] == rates == pytest.approx([0.02, 0.02, 0.002])


def test_the_objective_s_terms_are_means_over_the_epoch_s_examples(tmp_path: Path) -> None:
    """At a learning rate of next to nothing, they are those of the initial weights."""
    weights = torch.arange(ROWS) % 3.0
    data, model, start = blobs(weights / weights.mean()), net(), net()
    message = by_engine(model, tmp_path, {"l2": L2(0.1)}, data=data, optimizer=ADAM | {"lr": 1e-12})
    losses = functional.cross_entropy(start(data.train.inputs), data.train.targets, reduction="none")
    squares = sum(weight.detach().square().sum().item() for weight in start.parameters() if weight.ndim >= 2)
    assert message[1]["objective/task"] == pytest.approx((losses * data.train.weights).mean().item(), rel=1e-5)
    assert message[1]["objective/l2"] == pytest.approx(0.1 * squares / 2, rel=1e-5)


@pytest.mark.parametrize("precision, tolerance", [("32-true", 1e-6), ("64-true", 1e-6), ("bf16-true", 0.02)])
def test_only_a_step_s_first_forward_moves_batchnorm(tmp_path: Path, precision: str, tolerance: float) -> None:
    """SAM's second one does not, also where moving the model to its precision replaced the
    buffers.
    """
    data, model = blobs(offset=3.0), net(norm=True)
    first = model[0]
    hidden = first(data.train.inputs).detach().clone()
    tiny = {"_target_": "torch.optim.SGD", "lr": 1e-9}
    by_engine(
        model, tmp_path, {"sam": SAM(0.5)}, data=data, optimizer=tiny, batch_size=ROWS, epochs=1,
        trainer={"precision": precision},
    )  # fmt: skip
    assert int(model[1].num_batches_tracked) == 1
    wanted = 0.1 * hidden.mean(0)
    torch.testing.assert_close(model[1].running_mean.float(), wanted, atol=tolerance, rtol=tolerance)


def test_sam_descends_with_the_slope_uphill(tmp_path: Path) -> None:
    actual, wanted, data = net(), net(), blobs()
    options = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "batch_size": ROWS, "epochs": 1}
    by_engine(actual, tmp_path, {"sam": SAM(0.3)}, **options)
    loss = functional.cross_entropy(wanted(data.train.inputs), data.train.targets)
    here = torch.autograd.grad(loss, list(wanted.parameters()))
    norm = torch.cat([gradient.flatten() for gradient in here]).norm()
    start = [weight.detach().clone() for weight in wanted.parameters()]
    with torch.no_grad():
        for weight, gradient in zip(wanted.parameters(), here, strict=True):
            weight.add_(gradient, alpha=0.3 / float(norm))
    loss = functional.cross_entropy(wanted(data.train.inputs), data.train.targets)
    there = torch.autograd.grad(loss, list(wanted.parameters()))
    for weight, was, gradient in zip(actual.parameters(), start, there, strict=True):
        torch.testing.assert_close(weight.detach(), was - 0.1 * gradient, atol=1e-6, rtol=0)


def test_a_frozen_weight_stays(tmp_path: Path) -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    before = [weight.detach().clone() for weight in model.parameters()]
    by_engine(model, tmp_path, {"dropout": Dropout(0.3), "l2": L2(0.1)})
    same = [torch.equal(weight, was) for weight, was in zip(model.parameters(), before, strict=True)]
    assert same == [True, False, False, False]


class Bomb(nn.Module):
    """Says NaN from its so-many-th training batch on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.inner, self.at, self.seen = net(), at, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += self.training
        outputs: Tensor = self.inner(inputs)
        return outputs * (math.nan if self.training and self.seen > self.at else 1.0)


@pytest.mark.parametrize("steps_per_batch", [1, 4, 100])
@pytest.mark.parametrize("step", [0, 2, STEPS, STEPS + 3])
def test_divergence_names_the_first_step_that_was_not_finite(tmp_path: Path, step: int, steps_per_batch: int) -> None:
    with pytest.raises(Diverged) as message:
        by_engine(Bomb(step), tmp_path, steps_per_batch=steps_per_batch)
    assert (message.value.step, message.value.epoch) == (step, step // STEPS + 1)
    assert f"step {step} (epoch {step // STEPS + 1})" in str(message.value)


def test_batches_cover_every_row_once_and_differ_between_epochs_and_seeds() -> None:
    for seed in (0, 1):
        rows = torch.cat(list(batches(0, seed)))
        assert torch.equal(rows.sort().values, torch.arange(ROWS))
        assert not torch.equal(rows, torch.cat(list(batches(1, seed))))
    assert not torch.equal(torch.cat(list(batches(0, 0))), torch.cat(list(batches(0, 1))))
    assert len(batches(0)[-1]) == BATCH + 1

"""Callbacks given to ``reglab.fit`` watch each step and change nothing; others are refused with what there is."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks
from torch import nn

import reglab
from reglab.core.errors import UserError
from training.watching import Dated, Forgetful, Mine, NoCallback, Validating, Watch

STEPS = 4  # an epoch: 106 rows of wine in batches of 32


def fitted(*watching: pl.Callback) -> tuple[reglab.Fit, nn.Linear]:
    model = nn.Linear(13, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.reset_parameters()
    given = {"callbacks": list(watching)} if watching else {}
    return reglab.fit(model, reglab.dataset("wine"), [reglab.L1(1e-3)], epochs=2, **given), model


def test_they_see_each_step_and_change_nothing() -> None:
    watch = Watch(every=2)
    plain, without = fitted()
    seen, model = fitted(watch, callbacks.LearningRateMonitor())
    assert watch.seen == 2 * STEPS
    assert dict(seen.history["logged/watch/seen"]) == {1: STEPS, 2: 2 * STEPS}
    assert seen.history["logged/lr-Adam"][2] == pytest.approx(1e-3)
    assert torch.equal(model.weight, without.weight)
    assert {key: value for key, value in seen.metrics.items() if not key.startswith("logged")} == plain.metrics


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [callbacks.EarlyStopping("val/loss")],
            r"callbacks\[0\]: .* EarlyStopping is not taken here; instead: give",
        ),
        ([Watch(), Mine("val/loss")], r"callbacks\[1\]: a callback of the kind EarlyStopping"),
        ([callbacks.ModelCheckpoint()], "the kind Checkpoint is not taken here; instead: with tracking=..."),
        ([callbacks.StochasticWeightAveraging(1e-2)], r"instead: give reglab.EMA\(\)"),
        ([callbacks.GradientAccumulationScheduler({0: 2})], "trainer={'accumulate_grad_batches': 4}"),
        ([callbacks.RichProgressBar()], "progress is shown on standard error"),
        ([Validating()], "Validating.on_validation_end is never called"),
        ([Dated()], "holds a datetime, and checkpoints hold plain data"),
        ([Watch], r"callbacks\[0\] is the class Watch: give an instance of it, Watch\(\)"),
        ([NoCallback()], r"callbacks\[0\] is a NoCallback: callbacks takes a list of pytorch_lightning.Callback"),
        ("Watch", "is a str: callbacks takes a list"),
        ([reglab.Regularize([reglab.L1()], task="classification")], "is a reglab.Regularize, of a Trainer of yours"),
        ([Watch(1), Watch(2)], "have the same state_key"),
        ([FORGETFUL := Forgetful(), FORGETFUL], "is given twice"),
    ],
)
def test_what_would_change_training_or_never_be_called_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reglab.fit(nn.Linear(13, 3), reglab.dataset("wine"), epochs=1, callbacks=given)


def test_in_the_arguments_of_the_trainer_the_way_is_named() -> None:
    with pytest.raises(UserError, match=r"give reglab.fit\(..., callbacks=\[...\]\)"):
        reglab.fit(nn.Linear(13, 3), reglab.dataset("wine"), trainer={"callbacks": [Watch()]})

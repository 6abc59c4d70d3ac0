"""What is refused before training of how a job's steps are computed, and which settings do not go
together.
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import laws_harness as harness
import pytest
import torch

from reglab.core.errors import UserError
from reglab.distributed.strategies import Sharded
from reglab.regularizers import L1, SAM
from reglab.training import check
from reglab.training.execution_settings import Engine, split_settings
from reglab.training.experiment import Experiment

ACCUMULATE = "trainer.accumulate_grad_batches must be an integer >= 1, got "
MISSING = "trainer.activation_checkpointing='layers.0' fits none of the model's modules; valid: 0, 1, 2, 3, 4"
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01, "fused": True}
AVERAGING = {"_target_": "reglab.optimizers.schedule_free.ScheduleFree", "lr": 0.01}
ADAFACTOR = {"_target_": "torch.optim.Adafactor", "lr": 0.01}


def optimizer_of(job: Experiment) -> torch.optim.Optimizer:
    return job.recipe.build_optimizer(job.model, dict(job.model.named_parameters()))


@pytest.mark.parametrize(
    "trainer, message",
    [
        ({"accumulate_grad_batches": 0}, f"{ACCUMULATE}0"),
        ({"accumulate_grad_batches": True}, f"{ACCUMULATE}True"),
        ({"accumulate_grad_batches": 2.0}, f"{ACCUMULATE}2.0"),
        ({"accumulate_grad_batches": "2"}, f"{ACCUMULATE}2"),
        ({"sync_batchnorm": "x"}, "trainer.sync_batchnorm must be true or false, got x"),
        ({"sync_batchnorm": 1}, "trainer.sync_batchnorm must be true or false, got 1"),
        ({"compile": "fastest"}, "'fastest' is no mode of torch.compile; .*default.*reduce-overhead"),
        ({"activation_checkpointing": "layers.0"}, MISSING),
        ({"activation_checkpointing": 3}, "activation_checkpointing=3 must be true, false, or patterns"),
        (
            {"precision": "16-mixed"},
            "precision=16-mixed needs a GPU; on a CPU use trainer.precision=bf16-mixed",
        ),
        ({"strategy": "dpp"}, "trainer.strategy=dpp is not known"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_before_training(trainer: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check.check_experiment(harness.experiment({}, trainer=trainer))


@pytest.mark.parametrize(
    "members, optimizer, message",
    [
        ({"around": SAM(0.1)}, None, "does not work with around, which computes two gradients a step; .*bf16-mixed"),
        ({}, AVERAGING, "16-mixed does not work with ScheduleFree, whose gradients are not taken at the weights"),
        ({}, ADAM, "optimizer.fused=true does not work with trainer.precision=16-mixed: it skips .*; leave it out"),
        ({}, {**ADAM, "fused": False}, None),
        ({}, None, None),
    ],
)
def test_what_a_scaler_on_a_gpu_does_not_fit_is_refused(members: Any, optimizer: Any, message: str | None) -> None:
    on_gpu = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    job = harness.experiment(members, optimizer=optimizer, trainer={"precision": "16-mixed"})
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check.check_combination(job, on_gpu, optimizer_of(job))


def test_a_proximal_method_with_an_optimizer_that_it_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="proximal steps do not fit Adafactor: it scales"):
        check.check_experiment(harness.experiment({"l1": L1(0.1)}, optimizer=ADAFACTOR))
    check.check_experiment(harness.experiment({}, optimizer=ADAFACTOR))


def test_an_optimizer_that_does_not_fit_sharding_is_refused() -> None:
    job = harness.experiment({}, optimizer=ADAFACTOR)
    check.check_experiment(job)
    with pytest.raises(UserError, match=r"trainer.strategy=fsdp: Adafactor may need whole weights"):
        check.check_combination(job, SimpleNamespace(strategy=Sharded()), optimizer_of(job))


def test_what_is_not_of_the_engine_is_left_for_lightning() -> None:
    given = {"accumulate_grad_batches": 3, "sync_batchnorm": False, "compile": "default", "devices": 2, "shards": None}
    engine, left = split_settings({**given, "activation_checkpointing": ["0", "2"]})
    assert engine == Engine(3, "default", ["0", "2"], False)
    assert left == {"devices": 2, "shards": None}


@pytest.mark.parametrize("trainer", [{}, {"compile": None, "activation_checkpointing": None}])
def test_nothing_is_switched_on_by_itself(trainer: dict[str, Any]) -> None:
    assert split_settings(trainer) == (Engine(1, False, False, True), {})

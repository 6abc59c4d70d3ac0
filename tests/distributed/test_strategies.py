"""Which strategies train, what each is made of, and what does not fit weights that are cut."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from reglab.core.errors import UserError
from reglab.distributed.strategies import Sharded, check_sharding, disable_buffer_broadcast, trainer_arguments

GROUP_AT_EXIT = """
import atexit
from torch import distributed
from reglab.distributed.strategies import destroy_group_at_exit

atexit.register(lambda: print(distributed.is_initialized()))  # called after what is registered later
destroy_group_at_exit()
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
print(distributed.is_initialized())
"""
SHARDS = r"trainer.shards must be null \(all devices\) or an integer >= 1, got "
HALF = "16-mixed does not work with trainer.strategy=fsdp; use trainer.precision=bf16-mixed"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"strategy": "dpp"}, "trainer.strategy=dpp is not known .*; did you mean 'ddp'?"),
        ({"strategy": "fsdp2"}, "trainer.strategy=fsdp2 is not known .*; did you mean 'fsdp'?"),
        ({"strategy": "ddp_spawn"}, r"trainer.strategy=ddp_spawn is for notebooks \(reglab.fit\); here: .*=ddp$"),
        ({"strategy": "ddp_notebook"}, "trainer.strategy=ddp_notebook is for notebooks"),
        ({"strategy": ModelParallelStrategy()}, "trainer.strategy=ModelParallelStrategy is not known .*; use ddp"),
        ({"shards": 2}, "trainer.shards=2 needs trainer.strategy=fsdp; add it, or leave shards out"),
        ({"strategy": "ddp", "shards": 2}, "trainer.shards=2 needs trainer.strategy=fsdp"),
        ({"strategy": "fsdp", "shards": 0}, f"{SHARDS}0"),
        ({"strategy": "fsdp", "shards": 2.0}, f"{SHARDS}2.0"),
        ({"strategy": "fsdp", "shards": "2"}, f"{SHARDS}'2'"),
        ({"strategy": "fsdp", "shards": True}, f"{SHARDS}True"),
        ({"strategy": "fsdp", "precision": "16-mixed"}, HALF),
        ({"strategy": "fsdp", "precision": "16"}, HALF),
        ({"strategy": "fsdp", "precision": 16}, HALF),
    ],
)
def test_a_strategy_that_cannot_train_with_regularizers_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer_arguments(settings)


@pytest.mark.parametrize("shards", [None, 2])
def test_fsdp_is_our_own_strategy(shards: int | None) -> None:
    actual = trainer_arguments({"strategy": "fsdp", "shards": shards, "devices": 4})
    strategy = actual.pop("strategy")
    assert isinstance(strategy, Sharded)
    assert strategy.shards == shards
    assert actual == {"devices": 4}


@pytest.mark.parametrize("precision", ["64-true", "64", 64])
def test_double_precision_is_the_models_own_where_weights_are_cut(precision: str | int) -> None:
    assert trainer_arguments({"strategy": "fsdp", "precision": precision})["precision"] == "32-true"
    assert trainer_arguments({"strategy": "ddp", "precision": precision})["precision"] == precision


@pytest.mark.parametrize(
    "strategy", ["auto", "ddp", "ddp_find_unused_parameters_true", DDPStrategy(), SingleDeviceStrategy("cpu")]
)
def test_what_is_known_to_train_goes_to_lightning_as_it_is(strategy: Any) -> None:
    given = {"strategy": strategy, "precision": "16-mixed"}
    assert trainer_arguments(given) == given


def test_shards_that_do_not_divide_the_devices_are_refused() -> None:
    class OnFour(Sharded):
        world_size = 4

    with pytest.raises(UserError, match=r"trainer.shards=3 does not divide the 4 devices"):
        OnFour(3).mesh()


class Scaled(nn.Module):
    """A layer with a single number as its factor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2, bias=False)
        self.factor = nn.Parameter(torch.ones(()))


class OwnAdam(torch.optim.Adam):
    """It may look at whole weights."""


@pytest.mark.parametrize("kind", [torch.optim.Adafactor, torch.optim.Muon, torch.optim.LBFGS, OwnAdam])
def test_an_optimizer_that_may_need_whole_weights_is_refused(kind: Any) -> None:
    model = nn.Linear(2, 2, bias=False)
    with pytest.raises(UserError, match=f"fsdp: {kind.__name__} may need whole weights.* use trainer.strategy=ddp"):
        check_sharding(model, kind(model.parameters()))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_a_weight_without_an_axis_cannot_be_cut(kind: Any) -> None:
    model = Scaled()
    optimizer = kind(model.parameters())
    check_sharding(model.inner, optimizer)
    with pytest.raises(UserError, match="shards the first axis of each weight, and factor has none; use ddp"):
        check_sharding(model, optimizer)


def test_a_process_group_ends_before_python_does() -> None:
    """Threads of gloo that release tensors while Python ends abort the process now and then."""
    ended = subprocess.run([sys.executable, "-c", GROUP_AT_EXIT], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "False"]


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_ddp_sends_no_buffers_around(group: None) -> None:
    strategy = DDPStrategy()
    disable_buffer_broadcast(strategy)
    assert not DistributedDataParallel(nn.BatchNorm1d(2), **strategy._ddp_kwargs).broadcast_buffers
    assert DistributedDataParallel(nn.BatchNorm1d(2)).broadcast_buffers  # torch's own choice is the other one

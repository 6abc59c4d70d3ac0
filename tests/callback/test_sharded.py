"""``Regularize`` on weights that FSDP2 shards, by two gloo processes: what one process does, also resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import forked
import reglab
from callback.own_module import LIGHTNING_WARNS, assert_same
from callback.sharded_ranks import CASES, train
from reglab.callback.checks import check_sharded
from reglab.callback.sharding import local_parameters
from reglab.core.errors import UserError
from reglab.distributed.parameters import LocalParameters
from reglab.measures.weights import Whole
from reglab.regularizers import Cocktail

pytestmark = [*LIGHTNING_WARNS, pytest.mark.filterwarnings("ignore:`weights_only` was not set")]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what two processes trained."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).parent / "sharded_ranks.py"
    forked.torchrun(2, [script, folder], folder, PYTHONPATH=str(script.parents[1]))
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return results


@pytest.mark.parametrize("case", [*CASES, "resumed"])
def test_sharded_training_equals_that_of_one_process(tmp_path: Path, by_two: dict[str, Any], case: str) -> None:
    if case == "resumed":
        train("averaged", tmp_path, 1)
        wanted = train("averaged", tmp_path, 1, tmp_path / "averaged.ckpt")
    else:
        wanted = train(case, tmp_path, 1)
    assert_same(by_two[case]["state"], wanted["state"], 1e-12)
    for actual, row in zip(by_two[case]["history"], wanted["history"], strict=True):
        assert actual == pytest.approx(row, abs=1e-6)
    assert by_two[case]["own_loss"] == pytest.approx(wanted["own_loss"], abs=1e-6)  # averaged weights


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """A group of one process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def test_weights_that_are_cut_otherwise_are_refused(alone: Any) -> None:
    model = nn.Linear(4, 2)
    model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), alone, [Shard(1)]))
    with pytest.raises(UserError, match="bias is whole on each device and other weights are sharded"):
        local_parameters(model)
    model.bias = nn.Parameter(distribute_tensor(model.bias.detach(), alone, [Shard(0)]))
    with pytest.raises(UserError, match=r"weight is cut as .*shard by fully_shard alone"):
        local_parameters(model)


def test_a_mesh_of_fewer_devices_is_refused(alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's default shards over the nodes, of which there is one, and repeats the rest."""
    model = nn.Linear(4, 2, bias=False)
    model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), alone, [Shard(0)]))
    monkeypatch.setattr(distributed, "get_world_size", lambda *_: 2)
    with pytest.raises(UserError, match=r"over 1 of 2 devices.*data_parallel_size=2, tensor_parallel_size=1"):
        local_parameters(model)


class InShards(LocalParameters):
    shards = Whole(lambda part: part, lambda part: part, {})


def test_what_needs_whole_weights_is_refused_by_name() -> None:
    parameters = InShards(nn.Linear(2, 1))
    with pytest.raises(UserError, match="sam takes a gradient at other weights, which are sharded"):
        check_sharded(Cocktail({"sam": reglab.SAM(0.1)}, 0, "regression"), parameters, None)
    with pytest.raises(UserError, match="optimizer=0 follows one of several"):
        check_sharded(Cocktail({}, 0, "regression"), parameters, 0)

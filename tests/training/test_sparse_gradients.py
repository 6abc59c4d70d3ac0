"""Embeddings with sparse gradients: whatever is asked for beside them, they train as dense
ones do.
"""

from dataclasses import replace
from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn

from callback.own_module import LIGHTNING_WARNS, OwnModule, loaders, trainer, weights_of
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.regularizers import L1, L2, SAM, WeightDecay
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment

pytestmark = LIGHTNING_WARNS
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"_target_": "torch.optim.SGD", "lr": 0.3},
    "decayed": {"_target_": "torch.optim.SGD", "lr": 0.3, "weight_decay": 0.1},
    "momentum": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
    "adam": {"_target_": "torch.optim.Adam", "lr": 0.01},
}
MEMBERS = {"none": [], "l1": [L1], "l2": [L2], "decay": [WeightDecay], "sam": [SAM], "all": [L1, L2, WeightDecay, SAM]}


class Bag(nn.Module):
    """Two columns of integers, each looked up."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.table = nn.Embedding(20, 4, sparse=sparse)
            self.bag = nn.EmbeddingBag(20, 4, sparse=sparse, mode="sum")
            self.head = nn.Linear(8, harness.CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        numbers = (inputs.abs() * 7).long().clamp(max=19)
        return self.head(torch.cat([self.table(numbers[:, 0]), self.bag(numbers[:, 1:])], dim=1))


def job(sparse: bool, kinds: list[Any], optimizer: str, clip: float | None, data: DataSet | None = None) -> Experiment:
    members = {kind.__name__.lower(): kind(0.05) for kind in kinds}
    return fused.job(members, model=Bag(sparse), optimizer=OPTIMIZERS[optimizer], epochs=2, clip=clip, data=data)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("members", MEMBERS)
def test_alone(members: str, optimizer: str, clip: float | None) -> None:
    sparse, dense = (fused.alone(job(kind, MEMBERS[members], optimizer, clip)) for kind in (True, False))
    fused.assert_close(sparse.state_dict(), dense.state_dict(), 1e-12, members)
    assert sparse.model.table.sparse  # as it was given


@pytest.mark.parametrize("clip", [None, 0.5])
def test_in_a_pack(clip: float | None) -> None:
    fused.assert_equals_solo(lambda number: job(True, [L1, L2], "adam", clip), 2)


def test_plain_sgd_keeps_the_gradient_sparse() -> None:
    observed = []

    class Watched(fused.Solo):
        def _update(self) -> None:
            observed.append((self.model.table.weight.grad.is_sparse, self.model.head.weight.grad.is_sparse))
            super()._update()

    fused.alone(job(True, [], "sgd", None), Watched)
    assert set(observed) == {(True, False)}


def test_sparse_adam_is_refused_with_what_to_use() -> None:
    wrong = job(True, [], "adam", None)
    wrong = replace(wrong, recipe=replace(wrong.recipe, optimizer={"_target_": "torch.optim.SparseAdam", "lr": 0.1}))
    with pytest.raises(UserError, match=r"SparseAdam .*use Adam"):
        check_experiment(wrong)


class OwnBag(OwnModule):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.body = Bag(sparse).double()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def test_the_callback_adds_penalties_to_sparse_gradients() -> None:
    actual = []
    for sparse in (True, False):
        module = OwnBag(sparse)
        members = [L2(0.1), L1(0.01), WeightDecay(0.1)]
        trainer([Regularize(members, "classification", every=None)]).fit(module, *loaders())
        actual.append(weights_of(module))
    for name, weight in actual[0].items():
        torch.testing.assert_close(weight, actual[1][name], rtol=0, atol=1e-12)

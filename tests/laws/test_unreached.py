"""Law: a weight that no loss reaches ends at exactly 0 under every proximal method and every optimizer.

Loss and penalty together are least there. torch leaves a weight without a gradient alone; a regularizer does not.
"""

from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from reglab.training.experiment import Experiment

PROXIMAL = [name for name in harness.NAMES if any(member.proximal for member in harness.members(name).values())]
DECAYING = ["weight_decay", "weight_decay_fixed"]
OPTIMIZERS = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path))
    for path in (harness.CONF.parent / "optimizer").glob("*.yaml")
    if path.stem != "own"  # that of a LightningModule
}


# With which they get there in 100 steps.
RATES = {"sgd": 0.3, "momentum": 0.03, "adagrad": 0.2, "radam": 0.3, "adadelta": 2.0, "lion": 0.002, "adamax": 0.05}


class Unreached(nn.Module):
    """One layer has no part in the outputs, another's is multiplied by 0, a column of the first meets zeros."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.head = nn.Linear(harness.FEATURES, 8), nn.Linear(8, harness.CLASSES)
            self.idle, self.nought = nn.Linear(3, 3), nn.Linear(8, harness.CLASSES)
        with torch.no_grad():
            for weight in (self.idle.weight, self.nought.weight, self.first.weight[:, -1]):
                weight.mul_(0.2)  # near enough to get there in 100 steps

    def forward(self, inputs: Tensor) -> Tensor:
        seen = torch.cat([inputs[:, :-1], torch.zeros_like(inputs[:, -1:])], dim=1)
        hidden = torch.tanh(self.first(seen))
        return self.head(hidden) + 0 * self.nought(hidden)


def job(name: str, optimizer: str, number: int = 0, epochs: int = 25, **changes: float) -> Experiment:
    members = harness.members(name, **({"strength": (0.01, 0.014)[number]} | changes))
    node: dict[str, Any] = {**OPTIMIZERS[optimizer], "lr": RATES.get(optimizer, 0.015)}
    return fused.job(members, seed=number, model=Unreached(number), optimizer=node, epochs=epochs, clip=3.0)


def unreached(state: dict[str, Tensor]) -> list[Tensor]:
    return [state["model.idle.weight"], state["model.nought.weight"], state["model.first.weight"][:, -1]]


@pytest.mark.parametrize("optimizer", [name for name, node in OPTIMIZERS.items() if fused.fitting(["l1"], node)])
@pytest.mark.parametrize("name", PROXIMAL)
def test_it_ends_at_zero_alone_and_in_a_pack(name: str, optimizer: str) -> None:
    pack = fused.together([job(name, optimizer, number) for number in range(2)])
    alone = dict(fused.alone(job(name, optimizer)).state_dict())
    for state in (alone, *fused.states(pack).values()):
        for weights in unreached(state):
            assert torch.count_nonzero(weights) == 0
        assert torch.count_nonzero(state["model.first.weight"]) > 0  # not because everything does
    fused.assert_close(fused.states(pack)[0], alone, 1e-8, "member 0")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", DECAYING)
def test_decay_shrinks_it_by_the_same_share_under_every_optimizer(name: str, optimizer: str) -> None:
    rate = job(name, optimizer).recipe.optimizer["lr"]
    before = Unreached(0).idle.weight.double()
    state = fused.alone(job(name, optimizer, epochs=5)).state_dict()
    share = 1 - 0.01 * (rate if name == "weight_decay" else 1)
    torch.testing.assert_close(state["model.idle.weight"], before * share**20, rtol=1e-10, atol=0)

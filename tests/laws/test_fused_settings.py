"""Law: fused equals solo, whatever a job may set: batches, example weights, schedules, targets, kinds of weights."""

from dataclasses import replace
from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from reglab.training.experiment import Experiment

_CONF = harness.CONF.parent / "optimizer"
LR = "torch.optim.lr_scheduler."
SCHEDULES = {
    "one cycle, momentum too": {"_target_": f"{LR}OneCycleLR", "max_lr": 0.2, "interval": "step"},
    "plateau": {"_target_": f"{LR}ReduceLROnPlateau", "patience": 0, "factor": 0.3},
    "several": {
        "_target_": f"{LR}SequentialLR",
        "schedulers": [{"_target_": f"{LR}LinearLR", "start_factor": 0.1}, {"_target_": f"{LR}StepLR", "step_size": 1}],
        "milestones": [2],
    },
    "cosine by step": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"},
    "cosine by epoch": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "eta_min": 1e-3},
    "steps by epoch": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.3},
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_of_each_members_own_learning_rate(kind: str) -> None:
    def make(number: int) -> Experiment:
        schedule = dict(SCHEDULES[kind])
        if "gamma" in schedule:
            schedule["gamma"] = (0.3, 0.5)[number]
        optimizer = {**fused.SGD, "lr": (0.05, 0.2)[number], "momentum": 0.5}
        return fused.job(harness.members("l1"), seed=number, optimizer=optimizer, epochs=6, scheduler=schedule)

    fused.assert_equals_solo(make, 2)


def _optimizers() -> dict[str, dict[str, Any]]:
    found = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in _CONF.glob("*.yaml")}
    return {name: node for name, node in sorted(found.items()) if node}  # "own": a LightningModule's


@pytest.mark.parametrize("name", _optimizers())
def test_every_optimizer_in_param_groups(name: str) -> None:
    node = _optimizers()[name]

    def make(number: int) -> Experiment:
        groups = [{"where": "4.weight", "lr_scale": 0.3 * (1 + number)}, {"where": "0.*", "weight_decay": 0.1 * number}]
        optimizer = {**node, "lr": 0.01 * (1 + number), "groups": groups}
        mixture = harness.members(fused.fitting(["l1", "l2"], node)[0]) | harness.members("weight_decay")
        return fused.job(mixture, seed=number, model=fused.net(number, bias=False), optimizer=optimizer, epochs=5)

    fused.assert_equals_solo(make, 2)


def test_layers_with_rates_of_their_own_and_frozen_ones() -> None:
    def make(number: int) -> Experiment:
        optimizer = {**fused.SGD, "layer_decay": 0.5 + 0.2 * number, "groups": [{"where": "0.*", "frozen": True}]}
        made = fused.job(harness.members("l2"), seed=number, optimizer=optimizer, epochs=4)
        made.recipe.freeze(made.model)
        return made

    before = make(0).model[0].weight.detach().clone()
    state = fused.states(fused.assert_equals_solo(make, 2))[0]
    assert torch.equal(state["model.0.weight"], before.double())


@pytest.mark.parametrize("rows", [12, 43, 100])
def test_batches_that_do_not_divide_the_rows(rows: int) -> None:
    def make(number: int) -> Experiment:
        mixture = harness.members("mixup", strength=0.2 + number) | harness.members("flooding", strength=0.9)
        return fused.job(mixture, seed=number, batch_size=rows, epochs=6)

    fused.assert_equals_solo(make, 2)


@pytest.mark.parametrize("name", ["none", "mixup", "label_smoothing", "flooding"])
def test_weights_of_examples(name: str) -> None:
    data = harness.blobs()
    weights = torch.linspace(0, 2, harness.ROWS)
    weighted = replace(data, train=replace(data.train, weights=weights / weights.mean()))
    fused.assert_equals_solo(lambda number: fused.job(harness.members(name), seed=number, data=weighted, epochs=6), 2)


@pytest.mark.parametrize("seeds", [(0, 1, 2), (4, 4, 4)], ids=["own seeds", "one seed"])
def test_label_noise_of_each_members_own(seeds: tuple[int, ...]) -> None:
    def make(number: int) -> Experiment:
        noise = fused.relabelled((5, 6, 5)[number])
        return fused.job(harness.members("dropout"), seed=seeds[number], data=noise, epochs=6)

    pack = fused.assert_equals_solo(make, 3).pack
    assert len(pack.train_rows.inputs) == harness.ROWS  # inputs are stored once
    assert len(pack.train_rows.targets) == 2 * harness.ROWS  # and targets once for each noise


class _Unusual(nn.Module):
    """A model with a frozen layer, two layers that share a weight, and one that no output depends on."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.frozen = nn.Linear(harness.FEATURES, 8).requires_grad_(False)
            self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.idle, self.head = nn.Linear(8, 8), nn.Linear(8, harness.CLASSES)
        self.second.weight = self.first.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.tanh(self.first(self.frozen(inputs)))))


@pytest.mark.parametrize("name", ["weight_decay", "l1", "sam", "ema", "l2"])
@pytest.mark.parametrize(
    "optimizer", [fused.ADAM, {**fused.SGD, "momentum": 0.9, "weight_decay": 0.1}], ids=["adam", "sgd"]
)
def test_frozen_shared_and_idle_weights(name: str, optimizer: dict) -> None:
    def make(number: int) -> Experiment:
        return fused.job(
            harness.members(name), seed=number, model=_Unusual(number), optimizer=optimizer, epochs=3, clip=1.0
        )

    pack = fused.assert_equals_solo(make, 2).pack
    for number, state in enumerate(fused.member_state(pack.stack, row, pack.base) for row in range(2)):
        assert torch.equal(state["model.frozen.weight"], _Unusual(number).frozen.weight.double())


@pytest.mark.parametrize("task", ["regression", "binary", "multilabel"])
def test_other_tasks(task: str) -> None:
    data = harness.blobs()
    columns = 2 if task == "multilabel" else 1
    generator = torch.Generator().manual_seed(3)
    targets = torch.randn(harness.ROWS, columns, generator=generator)
    targets = targets if task == "regression" else (targets > 0).float()
    train = replace(data.train, targets=targets if columns > 1 else targets[:, 0])
    data = replace(data, task=task, train=train, outputs=columns)

    def make(number: int) -> Experiment:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model = nn.Sequential(nn.Linear(harness.FEATURES, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, columns))
        job = fused.job({}, seed=number, model=model, data=data, epochs=6)
        return replace(job, cocktail=harness.Cocktail(harness.members("mixup"), number, task))

    fused.assert_equals_solo(make, 2)

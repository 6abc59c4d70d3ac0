"""Optimizers whose model is an average of the weights: what is measured, saved, resumed and loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laws_harness as harness
import pytest
import torch
from fused_harness import job
from test_resume_schedules import assert_resumed_equals_uninterrupted
from torch import nn

import reglab
from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.training import restore
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment
from training.job_case import Case
from training.test_restore import measured, wine


class Swapping(torch.optim.SGD):
    """SGD that keeps the mean of its path, and swaps it in by ``eval()``: as schedulefree's do, rounding as it
    swaps.
    """

    def step(self, closure: Any = None) -> None:
        assert self.param_groups[0]["training"]
        super().step(closure)
        for weight in self.param_groups[0]["params"]:
            state = self.state[weight]
            count = state["count"] = state.get("count", 0) + 1
            state["mean"] = state.get("mean", 0) + (weight.detach() - state.get("mean", 0)) / count

    def train(self) -> None:
        self._swap(True)

    def eval(self) -> None:
        self._swap(False)

    def _swap(self, training: bool) -> None:
        group = self.param_groups[0]
        if group.get("training", training) != training:
            for weight in group["params"]:
                if "mean" in self.state[weight]:
                    away = (weight.detach() - self.state[weight]["mean"]) * (3.0 if training else 1 / 3)
                    weight.data.copy_(self.state[weight]["mean"] + away)
        group["training"] = training


NODES = {
    "schedule_free": {"_target_": "reglab.optimizers.schedule_free.ScheduleFree", "lr": 0.01},
    "swapping": {"_target_": f"{__name__}.Swapping", "lr": 0.05},
}


@pytest.fixture(autouse=True)
def trusted() -> Iterator[None]:
    with isolated():
        trust(__name__.partition(".")[0])
        yield


def made(node: dict[str, Any], *names: str) -> Experiment:
    members = {key: it for name in names for key, it in harness.members(name).items()}
    return job(members, optimizer=node, epochs=3, steps_per_batch=1, precision="32-true", clip=0.4)


@pytest.mark.parametrize("kind", NODES)
def test_a_resumed_run_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    assert_resumed_equals_uninterrupted(lambda: made(NODES[kind], "sam"), tmp_path)


@pytest.mark.parametrize("name", ["AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree"])
def test_so_does_one_of_the_package(name: str, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree", reason="pip install schedulefree")
    trust("schedulefree")
    node = {"_target_": f"schedulefree.{name}", "lr": 0.01}
    check_experiment(made(node, "l2"))
    assert_resumed_equals_uninterrupted(lambda: made(node, "l2"), tmp_path)


@pytest.mark.parametrize("kind", NODES)
def test_what_is_measured_and_loaded_is_the_average(kind: str, case: Case) -> None:
    node = NODES[kind]
    result = case.train(
        f"optimizer._target_={node['_target_']}", "optimizer.lr=0.05", f"trust=[{__name__.partition('.')[0]}]"
    )
    model = restore.load(result.run_id)
    assert model.reglab_weights == "last averaged"
    assert measured(model, wine().val)[0] == pytest.approx(result.metrics["val/loss"], rel=1e-5)
    kept = restore.restore(restore.checkpoint_of(result.run_id, None, None)).model
    assert not torch.allclose(kept.head.weight, model.head.weight)
    norm = torch.cat([w.flatten() for n, w in model.state_dict().items() if n.endswith("weight")]).norm()
    recorded = case.metrics(result.run_id)
    assert recorded["weights/all/l2"] == pytest.approx(float(norm), rel=1e-5)
    assert not any("weights/averaged" in name for name in recorded)
    assert case.run(result.run_id).data.tags["reglab.regularizer"] == "none"


@pytest.mark.parametrize(
    "kind, name, message",
    [
        ("schedule_free", "ema", "regularizer.ema: the optimizer stands for an average of the weights already"),
        ("schedule_free", "l1", "proximal steps do not fit ScheduleFree: the model is an average"),
        ("swapping", "l1", "regularizer.l1 sets weights to exactly zero, which an average of them is not"),
        ("swapping", "max_norm", "regularizer.max_norm changes the weights between two steps, and Swapping keeps"),
        ("swapping", "weight_decay", "use optimizer=schedule_free"),
    ],
)
def test_what_an_average_does_not_fit_is_refused(kind: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_experiment(made(NODES[kind], name))


def test_a_number_that_the_average_does_not_take_is_refused_by_its_key() -> None:
    with pytest.raises(UserError, match=r"optimizer\.beta must be finite and >= 0 and < 1, got 1"):
        made({**NODES["schedule_free"], "beta": 1.0})


def test_the_name_of_the_average_is_not_a_regularizers() -> None:
    with pytest.raises(UserError, match=r"regularizer\.optimizer: this optimizer needs the name"):
        job({"optimizer": reglab.L2(0.1)}, optimizer=NODES["schedule_free"])


def test_fit_hands_back_the_average() -> None:
    model = nn.Linear(13, 3)
    fit = reglab.fit(model, reglab.dataset("wine"), epochs=2, optimizer="schedule_free", lr=0.01)
    assert measured(fit.model, reglab.dataset("wine").val)[0] == pytest.approx(fit.metrics["val/loss"], rel=1e-5)

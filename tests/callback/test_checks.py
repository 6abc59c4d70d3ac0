"""What the callback refuses, and that it says what to do instead."""

from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.optim import LBFGS, SGD, Adam

from callback.own_module import LIGHTNING_WARNS, ManualModule, OwnModule, loaders, trainer
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.optimizers.schedule_free import ScheduleFree
from reglab.regularizers import EMA, L1, SAM, LabelSmoothing, Mixup, Objective, Regularizer

pytestmark = LIGHTNING_WARNS


class Own(Regularizer):
    def on_objective(self, objective: Objective) -> Objective:
        return objective


@pytest.mark.parametrize(
    "member, words",
    [
        (LabelSmoothing(0.2), ["label_smoothing needs the batch and its loss", "label_smoothing=0.2)", "reglab.fit"]),
        (Mixup(0.3), ["mixup needs", "Beta(0.3, 0.3)"]),
        (SAM(0.1), ["sam needs a second gradient", "Give Regularize(..., loss=lambda module, batch: ...)"]),
        (Own(), ["own needs the batch and its loss", "reglab.fit"]),
    ],
)
def test_a_member_that_needs_the_batch_says_so_at_once(member: Regularizer, words: list[str]) -> None:
    given: dict[str, Any] = {"loss": lambda module, batch: module(batch[0]).sum()}  # by a task they can act
    with pytest.raises(UserError) as refusal:
        Regularize([L1(), member], **({"task": "classification"} if isinstance(member, SAM) else given))
    for word in words:
        assert word in str(refusal.value)


def test_the_lines_for_mixup_train_what_mixup_trains() -> None:
    """At a share of 1 mixup is the plain loss; the advice, pasted as it stands, must be too."""
    with pytest.raises(UserError) as refusal:
        Regularize([Mixup(0.3)], loss=lambda module, batch: module(batch[0]).sum())
    lines = (
        str(refusal.value).partition("training_step: ")[2].replace("torch.distributions.Beta(0.3, 0.3).sample()", "1")
    )
    x, y = loaders()[0].dataset[:8]
    names: dict[str, Any] = {"self": OwnModule(), "x": x, "y": y, "torch": torch, "F": torch.nn.functional}
    exec(lines, names)
    wanted = torch.nn.functional.cross_entropy(names["self"](x), y)
    torch.testing.assert_close(names["loss"], wanted)


@pytest.mark.parametrize("regularizers", [L1(), [L1(), "ema"], {"l1": 1e-4}])
def test_what_is_no_list_of_regularizers_is_refused(regularizers: Any) -> None:
    with pytest.raises(UserError, match="takes a list or a dict of regularizers"):
        Regularize(regularizers, "classification")


def test_names_come_from_the_dict_or_the_kind() -> None:
    assert list(Regularize([L1(), L1(), EMA()], "regression").cocktail.members) == ["l1", "l1_2", "ema"]
    assert list(Regularize({"first": L1(), "rest": L1()}, "regression").cocktail.members) == ["first", "rest"]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"every": None, "scores": ["f1"]}, "every=None never measures"),
        ({"every": None, "prefix": "a/"}, "every=None never measures"),
        ({"seed": 1.5}, "seed must be an integer >= 0"),
        ({"optimizer": 0}, "there are none: leave it out"),
        ({"memory_mb": -1}, "megabytes >= 0"),
    ],
)
def test_an_argument_that_nothing_would_use_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Regularize([], "classification", **given)


def test_a_misspelt_task_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'classification'"):
        Regularize([L1()], "classificaton")  # type: ignore[arg-type]  # the typo is the case


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_every_must_be_a_number_of_epochs(every: Any) -> None:
    with pytest.raises(UserError, match="every"):
        Regularize([], "classification", every=every)


class TwoOptimizers(ManualModule):
    def configure_optimizers(self) -> Any:
        layers = self.body
        return [SGD(layers[0].parameters(), lr=0.1), SGD(layers[3].parameters(), lr=0.1)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        return None


class NoOptimizer(OwnModule):
    def configure_optimizers(self) -> Any:
        return None


def half(weights: Any) -> Any:
    return Adam(weights, lr=0.01, fused=True)


@pytest.mark.filterwarnings("ignore:.*this fit will run with no optimizer")
@pytest.mark.parametrize(
    "module, options, message",
    [
        (TwoOptimizers(), {}, "TwoOptimizers.configure_optimizers gives 2"),
        (NoOptimizer(), {}, "gives 0"),
        (OwnModule(lambda weights: LBFGS(weights)), {}, "LBFGS evaluates the loss several times"),
        (OwnModule(lambda weights: ScheduleFree(weights)), {}, "in a loop of your own use AdamW with reglab.EMA"),
        (OwnModule(half), {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]}, "fused=False"),
    ],
    ids=["two", "none", "lbfgs", "schedule-free", "fused under a scaler"],
)
def test_an_optimizer_that_it_cannot_follow_is_refused(module: OwnModule, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer([Regularize([L1()], "classification")], **options).fit(module, *loaders())


def test_two_optimizers_can_be_measured() -> None:
    callback = Regularize([], "classification")
    trainer([callback], epochs=1).fit(TwoOptimizers(), *loaders())
    assert "gap/loss" in callback.metrics


def test_a_callback_belongs_to_one_module() -> None:
    callback = Regularize([L1()], "classification")
    trainer([callback], epochs=1).fit(OwnModule(), *loaders())
    with pytest.raises(UserError, match="another module"):
        trainer([callback], epochs=1).fit(OwnModule(), *loaders())


class Replaced(Regularizer):
    def on_model(self, model: nn.Module) -> nn.Module:
        return _Double(model)


class _Double(nn.Module):
    """Another module with the same parameters under the same names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.body = model.get_submodule("body")


def test_a_member_that_replaces_the_module_is_refused() -> None:
    with pytest.raises(UserError, match="replaced the whole module"):
        trainer([Regularize([Replaced()], "classification")]).fit(OwnModule(), *loaders())

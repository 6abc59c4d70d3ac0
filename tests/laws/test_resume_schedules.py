"""Law: under every schedule and optimizer, a resumed run ends with the bits of one that was never interrupted.

What a step uses of the optimizer (its learning rate above all) is state that loading a checkpoint replaces.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor

from callback.own_module import LIGHTNING_WARNS, OwnModule, loaders, trainer, weights_of
from reglab.callback.regularize import Regularize
from reglab.regularizers import overrides
from reglab.training.experiment import Experiment
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo

pytestmark = LIGHTNING_WARNS
EPOCHS, STEPS, CUT, CLIP = 3, 12, (5, 8), 0.4  # inside the second of three epochs of 4 steps, and at its end


def nodes(group: str) -> dict[str, dict[str, Any]]:
    """Return the content of each yaml of a config group."""
    folder = harness.CONF.parent / group
    return {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted(folder.glob("*.yaml"))}


SOON = {"step_size": 1, "patience": 0, "warmup": 0.2, "hold": 0.2}


def at_once(scheduler: dict[str, Any]) -> dict[str, Any]:
    """Return a schedule that moves within a few epochs."""
    return {key: SOON.get(key, value) for key, value in scheduler.items()}


def resolved(scheduler: dict[str, Any], lr: float) -> dict[str, Any]:
    return {key: lr if value == "${optimizer.lr}" else value for key, value in scheduler.items()}


LINEAR = "torch.optim.lr_scheduler.LinearLR"
CHAINED = {  # what no file of conf has: several schedules one after the other
    "_target_": "torch.optim.lr_scheduler.SequentialLR",
    "schedulers": [
        {"_target_": LINEAR, "start_factor": 0.2, "total_iters": 4},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"},
    ],
    "milestones": [0.25],
    "interval": "step",
}
SCHEDULERS = {name: at_once(node) for name, node in nodes("scheduler").items()} | {"chained": CHAINED}
OPTIMIZERS = {name: node for name, node in nodes("optimizer").items() if node}  # "own": a LightningModule's
MOVING = [  # what asks for a learning rate or a step size, or moves weights beside the optimizer
    name
    for name in harness.NAMES
    if any(overrides(it, hook) for it in harness.members(name).values() for hook in ("before_step", "on_step"))
]
REST = [name for name in harness.NAMES if name not in MOVING]

under_all = pytest.mark.parametrize("optimizer", OPTIMIZERS)
on_all = pytest.mark.parametrize("scheduler", SCHEDULERS)
GROUPS = [{"where": "4.*", "lr_scale": 0.5}]  # of the net that these laws train


def job(members: list[str], optimizer: str, scheduler: str, number: int = 0, groups: bool = False) -> Experiment:
    mixture = {}
    for name in fused.fitting(members, OPTIMIZERS[optimizer]):
        mixture |= harness.members(
            name, **({"strength": 0.05 * (1 + number)} if name in ("l1", "weight_decay") else {})
        )
    lr = OPTIMIZERS[optimizer]["lr"] * (1 + number)
    moved = {**OPTIMIZERS[optimizer], "lr": lr, **({"groups": GROUPS} if groups else {})}
    return fused.job(
        mixture, seed=number, optimizer=moved, epochs=EPOCHS, precision="32-true", steps_per_batch=1, clip=CLIP,
        scheduler=resolved(SCHEDULERS[scheduler], lr), model=fused.net(number, dtype=torch.float32),
    )  # fmt: skip


class SaveAt(pl.Callback):
    """Saves a checkpoint after so many steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if int(pl_module.cocktail.keys.step) == self.step:
            trainer.save_checkpoint(self.path)


def solo(made: Experiment, *callbacks: pl.Callback, resume: Path | None = None) -> dict[str, Tensor]:
    module = Solo(made.model, made.cocktail, made.data.train, made.data.task, made.recipe)
    fused._fit(made, module, list(callbacks), resume)
    return dict(module.state_dict())


def assert_resumed_equals_uninterrupted(make: Callable[[], Experiment], folder: Path) -> None:
    paths = {step: folder / f"{step}.ckpt" for step in CUT}
    whole = solo(make(), *(SaveAt(step, path) for step, path in paths.items()))
    assert int(whole["cocktail.keys.step"]) == STEPS
    for path in paths.values():
        harness.assert_same_bits(whole, solo(make(), resume=path))


@pytest.mark.parametrize("optimizer, scheduler", [("momentum", "step"), ("adam", "one_cycle")])
@pytest.mark.parametrize("name", MOVING)
def test_alone_with_every_method_that_decays_or_is_proximal(
    name: str, optimizer: str, scheduler: str, tmp_path: Path
) -> None:
    assert_resumed_equals_uninterrupted(lambda: job([name], optimizer, scheduler), tmp_path)


@pytest.mark.parametrize("name", REST)
def test_alone_with_every_other_method(name: str, tmp_path: Path) -> None:
    assert_resumed_equals_uninterrupted(lambda: job([name], "momentum", "cosine"), tmp_path)


MIXTURE = [name for name in MOVING if name not in ("ema", "max_norm")]


@on_all
@under_all
def test_alone_in_param_groups(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    assert_resumed_equals_uninterrupted(lambda: job(MIXTURE, optimizer, scheduler, groups=True), tmp_path)


# A pack takes seconds: each optimizer meets some schedules, and each schedule some optimizers.
MET = [
    (optimizer, scheduler)
    for number, optimizer in enumerate(OPTIMIZERS)
    for other, scheduler in enumerate(SCHEDULERS)
    if (number + other) % 5 == 0
]


@pytest.mark.parametrize("optimizer, scheduler", MET)
def test_in_a_pack(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    def jobs() -> list[Experiment]:
        return [job(MIXTURE, optimizer, scheduler, number, groups=True) for number in range(2)]

    path = tmp_path / "cut.ckpt"
    whole = fused.together(jobs(), fused.SaveAt(CUT[0], path, end=False))
    fused.assert_same_stack(whole, fused.together(jobs(), resume=path))


def _after(scheduler: str, steps: int) -> list[float]:
    """Return the learning rates of the first steps."""
    node = resolved(SCHEDULERS[scheduler], 0.1)
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, node, epochs=EPOCHS)
    optimizer = recipe.build_optimizer(torch.nn.Linear(1, 1))
    schedule = recipe.build_schedule(optimizer, STEPS // EPOCHS)
    assert schedule is not None
    rates = []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        inside = (step + 1) % (STEPS // EPOCHS) != 0
        schedule.advance(inside)
        if not inside:
            schedule.observe({"val/loss": 1.0})
    return rates


@pytest.mark.parametrize("scheduler", [name for name, node in SCHEDULERS.items() if node])
def test_the_schedules_of_this_law_move_the_learning_rate(scheduler: str) -> None:
    rates = _after(scheduler, STEPS)
    assert rates[CUT[1]] != rates[CUT[1] - 4]
    assert rates[-1] < 0.09


class Scheduled(OwnModule):
    """A user's module with a schedule, three steps an epoch."""

    def __init__(self, optimizer: str, scheduler: str) -> None:
        super().__init__(dropout=0.2)
        node = resolved(SCHEDULERS[scheduler], OPTIMIZERS[optimizer]["lr"])
        self.recipe = Recipe(OPTIMIZERS[optimizer], node, epochs=4)

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.build_optimizer(self, dict(self.named_parameters()))
        made = self.recipe.build_schedule(optimizer, 3)
        if made is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": made.scheduler, "interval": made.interval}}


class SaveAfter(pl.Callback):
    """Saves a checkpoint in the middle of an epoch."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("scheduler", ["constant", "step", "cosine", "one_cycle", "chained"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "rmsprop"])
def test_a_users_module_with_the_callback(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"

    def fitted(*more: pl.Callback, resume: Path | None = None) -> dict[str, Tensor]:
        members = {key: it for name in MIXTURE for key, it in harness.members(name).items()}
        module = Scheduled(optimizer, scheduler)
        run = trainer([Regularize(members, "classification", every=None), *more], epochs=4, gradient_clip_val=CLIP)
        run.fit(module, *loaders(), ckpt_path=resume, weights_only=True)
        return weights_of(module)

    whole = fitted(SaveAfter(6, path))
    harness.assert_same_bits(whole, fitted(resume=path))

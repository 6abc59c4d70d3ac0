"""Law: a pack that goes on from a checkpoint ends with the bits of one that was never interrupted."""

from pathlib import Path

import fused_harness as fused
import laws_harness as harness
import pytest
import torch

from reglab.models import CNN
from reglab.training.experiment import Experiment

COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"}
MIXTURE = {"ema": 0.7, "dropout": 0.2, "sam": 0.05, "l1": 0.01}


def make(number: int) -> Experiment:
    """Return a job of 4 epochs of 4 steps, with what has state or draws."""
    mixture = {}
    for name, strength in MIXTURE.items():
        mixture |= harness.members(name, strength=strength / (1 + number / 4))
    return fused.job(
        mixture, seed=number, optimizer={**fused.ADAM, "amsgrad": True}, epochs=4, precision="32-true",
        scheduler=COSINE, steps_per_batch=1, clip=1.0, model=fused.net(number, dtype=torch.float32),
    )  # fmt: skip


def jobs(count: int) -> list[Experiment]:
    return [make(number) for number in range(count)]


@pytest.fixture(scope="module")
def uninterrupted() -> fused.PackModule:
    return fused.together(jobs(3))


@pytest.mark.parametrize("step", [6, 8])
def test_cut_inside_an_epoch_and_at_its_end(step: int, uninterrupted: fused.PackModule, tmp_path: Path) -> None:
    cut = fused.together(jobs(3), fused.SaveAt(step, tmp_path / "cut.ckpt"))
    assert cut.pack.done() == step
    resumed = fused.together(jobs(3), resume=tmp_path / "cut.ckpt")
    fused.assert_same_stack(uninterrupted, resumed)


def test_cut_after_members_have_left(tmp_path: Path) -> None:
    ended = fused.EndAt({1: [1, 3], 3: [0]})
    uninterrupted = fused.together(jobs(5), ended)
    assert uninterrupted.pack.job_indices == [2, 4]
    fused.together(jobs(5), fused.EndAt({1: [1, 3]}), fused.SaveAt(6, tmp_path / "cut.ckpt"))
    resumed = fused.together(jobs(5), fused.EndAt({3: [0]}), resume=tmp_path / "cut.ckpt")
    fused.assert_same_stack(uninterrupted, resumed)


def test_a_member_that_has_ended_but_not_left_is_still_ended(tmp_path: Path) -> None:
    fused.together(jobs(2), fused.EndAt({1: [1]}), fused.SaveAt(6, tmp_path / "cut.ckpt"))
    resumed = fused.together(jobs(2), resume=tmp_path / "cut.ckpt")
    assert resumed.alive() == [0]


def test_choices_that_change_rounding_are_made_again(tmp_path: Path) -> None:
    lowering = {"blocks.0.convolution": "unfold", "blocks.1.convolution": "loop"}

    def planar() -> list[Experiment]:
        parts = []
        for number in range(2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                model = CNN([4, 4], norm="batch", inputs=(2, 3), outputs=3)
            data = fused.reshaped((2, 3))
            parts.append(fused.job(model=model, data=data, precision="32-true", epochs=3, steps_per_batch=1))
        return parts

    uninterrupted = fused.together(planar(), lowering=lowering)
    fused.together(planar(), fused.SaveAt(5, tmp_path / "cut.ckpt"), lowering=lowering)
    resumed = fused.together(planar(), resume=tmp_path / "cut.ckpt")
    assert resumed.pack.lowering == lowering
    fused.assert_same_stack(uninterrupted, resumed)

"""How long a job trains: as Lightning's Trainer does with the same arguments, alone, in a pack and
resumed.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from reglab.core.errors import UserError
from reglab.training.length import Length, length_of
from reglab.training.recipe import Recipe
from reglab.training.trainer import quiet_lightning
from training.solo_case import ADAM, BATCH, ROWS, assert_same_bits, batches, blobs, by_engine, net

STEPS = len(batches(0))  # of an epoch of 41 rows in steps of 8: 5, the single last row joins the one before


class Counting(pl.LightningModule):
    """Any module, which counts the batches of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.batches: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.batches.append(0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches[-1] += 1
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "limit_train_batches": 2},
        {"max_epochs": 2, "limit_train_batches": 0.5},
        {"max_epochs": 2, "limit_train_batches": 1.0},
        {"max_epochs": 2, "limit_train_batches": 99},
        {"max_epochs": -1, "max_steps": 7},
        {"max_epochs": -1, "max_steps": 10},
        {"max_epochs": 4, "max_steps": 16},
        {"max_epochs": -1, "max_steps": 5, "limit_train_batches": 3},
        {"max_epochs": 3, "limit_train_batches": 4, "accumulate_grad_batches": 2},
        {"max_epochs": -1, "max_steps": 3, "limit_train_batches": 4, "accumulate_grad_batches": 2},
    ],
    ids=str,
)
def test_it_takes_the_steps_that_lightning_takes(arguments: dict[str, Any]) -> None:
    module, rows = Counting(), 40
    quiet: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with quiet_lightning():
        trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **arguments)
        trainer.fit(module, DataLoader(TensorDataset(torch.zeros(rows, 1)), 8))

    length = length_of(arguments, rows, 8)
    per_epoch = length.limit or -(-rows // (8 * arguments.get("accumulate_grad_batches", 1)))
    assert length.epochs == len(module.batches)
    assert (length.steps or length.epochs * per_epoch) == trainer.global_step


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_steps": 500}, "takes 100 epochs of 5 steps, and trainer.max_epochs=50 ends before"),
        ({"max_epochs": None}, "has no end: give trainer.max_steps"),
        ({"max_epochs": 2.5}, "trainer.max_epochs must be an integer >= 1, got 2.5"),
        ({"max_steps": 0}, "trainer.max_steps must be an integer >= 1, got 0"),
        ({"max_epochs": 2, "min_epochs": 3}, "trainer.min_epochs=3 is more than training has, 2"),
        ({"limit_train_batches": 0}, "give a number of batches, or a fraction"),
        ({"limit_train_batches": math.nan}, "give a number of batches, or a fraction"),
        ({"limit_train_batches": True}, "give a number of batches, or a fraction"),
        ({"limit_train_batches": 2.5}, "give a number of batches, or a fraction"),
        ({"limit_train_batches": 0.1}, "less than one"),
        ({"limit_train_batches": 3, "accumulate_grad_batches": 2}, "batches: give 4"),
    ],
    ids=str,
)
def test_no_argument_is_passed_over(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        length_of(arguments, 40, 8)


def by_hand(limit: int | None, total: int) -> nn.Module:
    model, train, done = net(), blobs().train, 0
    optimizer = torch.optim.Adam(model.parameters(), lr=ADAM["lr"])
    for epoch in range(total):
        for rows in batches(epoch)[:limit]:
            if done < total:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(train.inputs[rows]), train.targets[rows]).backward()
                optimizer.step()
                done += 1
    return model


@pytest.mark.parametrize("chunk", [1, 2, 32])
@pytest.mark.parametrize("limit, total", [(None, 7), (2, 6), (3, 7), (None, 3)])
def test_the_steps_are_those_of_a_loop_by_hand_whatever_the_chunk(
    tmp_path: Path, chunk: int, limit: int | None, total: int
) -> None:
    given = {"max_epochs": None, "max_steps": total, "limit_train_batches": limit}
    length = length_of(given, ROWS, BATCH)
    model = net()
    recorded = by_engine(model, tmp_path, steps_per_batch=chunk, **length._asdict())
    assert_same_bits(model, by_hand(limit, total))
    assert len(recorded) == 1 + length.epochs  # the last one is measured, however short


def test_a_schedule_is_stretched_over_the_steps_that_there_are() -> None:
    cosine = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"}
    length = length_of({"max_epochs": None, "max_steps": 7}, ROWS, BATCH)
    assert length == Length(2, 0, None, 7)
    recipe = Recipe(ADAM, cosine, **length._asdict())
    made = recipe.build_schedule(recipe.build_optimizer(nn.Linear(1, 1)), STEPS)
    assert made is not None
    assert made.scheduler.T_max == 7  # type: ignore[attr-defined]  # cosine's

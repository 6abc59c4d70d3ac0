"""``Regularize`` measures modules whose targets have a class at each pixel or token."""

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from callback.own_module import LIGHTNING_WARNS, trainer
from reglab import L1, Regularize
from tasks.task_cases import case

pytestmark = LIGHTNING_WARNS


class Pixels(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.loss(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.log("mine", self.loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Tokens(Pixels):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize(
    "task, module, score", [("segmentation", Pixels, "mean_iou"), ("next_token", Tokens, "perplexity")]
)
def test_the_gap_of_a_module_of_positions_has_an_interval(task, module, score):
    outputs, targets = case(task)
    inputs = outputs.argmax(-1) if task == "next_token" else outputs.float()
    loaders = [DataLoader(TensorDataset(inputs[rows], targets[rows]), 8) for rows in (slice(0, 40), slice(40, 60))]
    callback = Regularize([L1(1e-4)], task=task)
    trainer([callback], epochs=3).fit(module(), *loaders)
    metrics = callback.metrics
    assert metrics["gap/loss_low"] < metrics["gap/loss"] < metrics["gap/loss_high"]
    assert metrics[f"gap/{score}_low"] < metrics[f"gap/{score}"] < metrics[f"gap/{score}_high"]
    assert callback.history[-1]["train/loss"] < callback.history[0]["train/loss"]
    assert callback.examples.val_loss.shape == (20,)

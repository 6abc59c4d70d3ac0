"""A user's own LightningModule and loaders, which know nothing of reglab."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

MakeOptimizer = Callable[[Iterable[Tensor]], Any]
# Of Lightning 2.6.6 itself, and its advice to use worker processes and longer epochs.
LIGHTNING_WARNS = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]
ROWS, VAL_ROWS, FEATURES, CLASSES = 48, 20, 6, 3


def sgd(weights: Iterable[Tensor]) -> Optimizer:
    return SGD(weights, lr=0.1)


class OwnModule(pl.LightningModule):
    def __init__(self, make: MakeOptimizer = sgd, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            body = [nn.Linear(FEATURES, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, CLASSES)]
            self.body = nn.Sequential(*body).double()
        self.make = make
        self.seen_by_validation: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return functional.cross_entropy(self(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self.log("own_loss", functional.cross_entropy(self(inputs), targets))
        self.seen_by_validation.append(self.body[0].weight.detach().clone())

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class ManualModule(OwnModule):
    """The same training under manual optimization."""

    wrapped = True

    def __init__(self, make: MakeOptimizer = sgd) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=self.wrapped)
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def dataset(rows: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, (inputs[:, :CLASSES] + noise).argmax(1))


def loaders(batch_size: int = 16, shuffle: bool = False) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train = DataLoader(dataset(ROWS, 2), batch_size=batch_size, shuffle=shuffle)
    return train, DataLoader(dataset(VAL_ROWS, 3), batch_size=batch_size)


def trainer(callbacks: list[pl.Callback], epochs: int = 2, **options: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": epochs,
    }
    return pl.Trainer(callbacks=callbacks, **(quiet | options))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def assert_same(actual: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert actual.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(
            actual[name], weight, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
        )

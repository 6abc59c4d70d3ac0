"""A project as Lightning's users have it: a module with metrics, a partial optimizer and a scheduler, and its data."""

import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MaxMetric, MeanMetric, MeanSquaredError, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from reglab.tasks.ordinal import Ordinal

INPUTS, CLASSES = 6, 3


class Points(Dataset[Any]):
    """Points around the centres of their classes; training ones are jittered by the global generators."""

    def __init__(self, rows: int, seed: int, *, jitter: bool) -> None:
        numbers = np.random.default_rng(seed)
        self.labels = torch.from_numpy(numbers.integers(0, CLASSES, rows))
        centres = np.random.default_rng(0).normal(size=(CLASSES, INPUTS))
        self.inputs = torch.from_numpy(centres[self.labels.numpy()] + numbers.normal(size=(rows, INPUTS))).float()
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        inputs = self.inputs[row]
        if self.jitter:
            inputs = inputs + 0.05 * torch.randn(INPUTS) + 0.05 * float(np.random.rand())
        return inputs, self.labels[row]


class PointsModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16, num_workers: int = 0, jitter: bool = True, rows: int = 96) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        given: Any = self.hparams
        self.parts = [
            Points(given.rows, 1, jitter=given.jitter),
            Points(64, 2, jitter=False),
            Points(64, 3, jitter=False),
        ]

    def loader(self, part: int, *, shuffle: bool) -> DataLoader[Any]:
        given: Any = self.hparams
        return DataLoader(self.parts[part], given.batch_size, shuffle=shuffle, num_workers=given.num_workers)

    def train_dataloader(self) -> Any:
        return self.loader(0, shuffle=True)

    def val_dataloader(self) -> Any:
        return self.loader(1, shuffle=False)

    def test_dataloader(self) -> Any:
        return self.loader(2, shuffle=False)


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(INPUTS, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, CLASSES)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs)
        return outputs


class Classifier(pl.LightningModule):
    """Logs metric objects, as lightning-hydra-template's module does; takes networks and partial optimizers."""

    def __init__(self, net: nn.Module, optimizer: Any, scheduler: Any = None, signal_at: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net
        self.criterion = nn.CrossEntropyLoss()
        self.train_loss, self.val_loss, self.val_best = MeanMetric(), MeanMetric(), MaxMetric()
        self.val_acc = MulticlassAccuracy(CLASSES, average="micro")

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        given: Any = self.hparams
        if self.global_step == given.signal_at:
            signal.raise_signal(signal.SIGTERM)
        loss: Tensor = self.criterion(self(batch[0]), batch[1])
        self.train_loss(loss)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs = self(batch[0])
        self.val_loss(self.criterion(outputs, batch[1]))
        self.val_acc(outputs, batch[1])
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True)

    def on_train_start(self) -> None:
        self.val_best.reset()  # of the check of Lightning's before training

    def on_validation_epoch_end(self) -> None:
        self.val_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_best.compute())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", self.criterion(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        given: Any = self.hparams
        optimizer = given.optimizer(params=self.parameters())
        if given.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": given.scheduler(optimizer=optimizer)}}


class Simple(pl.LightningModule):
    """Trains on ``(inputs, targets)`` with an optimizer of its own, and returns its validation loss."""

    def __init__(self, inputs: int = 13, outputs: int = 3, lr: float = 0.01) -> None:
        super().__init__()
        self.layer, self.lr = nn.Linear(inputs, outputs), lr

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class ByLevels(Ordinal):
    """A task of the user's own."""


class Ordered(Simple):
    """Trains by the order of its classes."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Ordinal().losses(self(batch[0]), batch[1]).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]  # as Lightning allows
        """Nothing: it is judged by ``data.task``."""


class Manual(Simple):
    """Steps its optimizer itself."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]  # as Lightning allows
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self(batch[0]), batch[1]))
        optimizer.step()


class ByHand(Simple):
    """Logs by its logger, and writes a file where that says."""

    def on_train_epoch_end(self) -> None:
        logger: Any = self.logger
        self.log("acc@5", 1.0)
        logger.log_metrics({"mine": float(self.current_epoch)}, step=self.global_step)
        Path(logger.save_dir, "mine.txt").write_text("mine")


class Experimenting(Simple):
    """Uses the object of another logger."""

    def on_train_epoch_end(self) -> None:
        logger: Any = self.logger
        logger.experiment.add_image("x", None)


class Keeping(Simple):
    """Keeps what its validation steps gave, as many modules do, and judges by that at the end of the epoch."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.outputs: list[Tensor] = []
        self.steps = 0
        self.total = torch.zeros(())
        self.seen: dict[str, int] = {}
        self.nested: dict[str, list[Tensor]] = defaultdict(list)
        self.register_buffer("count", torch.zeros(()))
        self.sum = SumMetric()

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().validation_step(batch, batch_idx)
        self.outputs.append(loss)
        self.steps += 1
        self.total += loss
        self.count += 1
        self.seen[f"{len(self.seen)}"] = 1
        self.nested["losses"].append(loss)
        self.sum(1.0)
        self.log("val/batches", self.sum)
        logger: Any = self.logger
        logger.log_metrics({"by_hand": float(self.steps)})
        return loss

    def on_validation_epoch_end(self) -> None:
        kept = {"outputs": len(self.outputs), "steps": self.steps, "count": float(self.count), "seen": len(self.seen)}
        kept["nested"] = len(self.nested["losses"])
        self.log_dict({f"kept/{name}": float(value) for name, value in kept.items()})
        self.log("kept/total", self.total / self.steps - torch.stack(self.outputs).mean())
        self.outputs.clear()
        self.nested.clear()
        self.seen.clear()
        self.steps = 0
        self.count.zero_()
        self.total.zero_()


class Plain(Simple):
    """Measures as ``Changing`` does, and leaves its batch alone."""


class Changing(Simple):
    """Changes its batch in place, and takes it apart, when it validates."""

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().validation_step(batch, batch_idx)
        batch[0].mul_(2)
        batch.pop()
        return loss


class Directed(Simple):
    """Logs values of which lower, or higher, ones are better."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.metrics = MetricCollection([MulticlassAccuracy(CLASSES, average="micro")], prefix="val/")
        self.squares = MeanSquaredError()

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs = self(batch[0])
        self.metrics.update(outputs, batch[1])
        self.squares.update(outputs.argmax(1).float(), batch[1].float())
        self.log_dict(self.metrics)  # type: ignore[arg-type]  # a mapping, as Lightning takes it
        self.log("val/MeanSquaredError", self.squares)
        self.log_dict({"val/MSE": outputs.square().mean(), "val/Top": outputs.max()})
        return nn.functional.cross_entropy(outputs, batch[1])


class Silent(Simple):
    """Neither returns nor logs a validation loss."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]  # as Lightning allows
        self.log("val/norm", self.layer.weight.norm())

"""The baseline of fused_sweep.py: plain Lightning with MLFlowLogger, as its documentation shows it.

python fused_stock.py TABLE EPOCHS
"""

import sys
import time

import pandas
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Stock(pl.LightningModule):
    """The net with L1 and L2 in its loss."""

    def __init__(self, features: int, classes: int, l1: float, l2: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, classes))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        loss = functional.cross_entropy(self.net(inputs), targets)
        weights = [weight for weight in self.net.parameters() if weight.ndim >= 2]
        penalty = sum(self.hparams.l1 * w.abs().sum() + self.hparams.l2 / 2 * w.square().sum() for w in weights)
        self.log("train/loss", loss)
        return loss + penalty

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        outputs = self.net(inputs)
        self.log("val/loss", functional.cross_entropy(outputs, targets))
        self.log("val/accuracy", (outputs.argmax(1) == targets).float().mean())

    def on_train_epoch_end(self) -> None:
        weights = torch.cat([weight.detach().flatten() for weight in self.net.parameters()])
        self.log_dict(
            {
                "weights/l1": weights.abs().sum(),
                "weights/l2": weights.norm(),
                "weights/zeros": (weights == 0).float().mean(),
            }
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(table: str, epochs: int) -> None:
    frame = pandas.read_csv(table)
    inputs = torch.tensor(frame.drop(columns="y").to_numpy(), dtype=torch.float32)
    targets = torch.tensor(frame["y"].astype("category").cat.codes.to_numpy(), dtype=torch.int64)
    train, val = TensorDataset(inputs[:6000], targets[:6000]), TensorDataset(inputs[6000:8000], targets[6000:8000])
    begin = time.perf_counter()
    module = Stock(inputs.shape[1], int(targets.max()) + 1, 1e-6, 1e-4)
    logger = MLFlowLogger("stock", tracking_uri="sqlite:///reglab.db")
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=logger, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, DataLoader(train, 64, shuffle=True), DataLoader(val, 500))
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

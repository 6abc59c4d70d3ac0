"""Callbacks as users write them."""

from datetime import UTC, datetime
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping


class Watch(pl.Callback):
    """Logs the norm of all weights every so many steps, and how many steps it saw; the last is resumed."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.seen = every, 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.seen += 1
        if trainer.global_step % self.every == 0:
            weights = [weight.detach() for name, weight in pl_module.named_parameters() if "cocktail" not in name]
            pl_module.log("watch/norm", torch.cat([weight.flatten() for weight in weights]).norm())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("watch/seen", float(self.seen))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Forgetful(pl.Callback):
    """Has no state."""


class Validating(pl.Callback):
    """Waits for a validation loop."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        raise AssertionError("it is never called")


class Dated(pl.Callback):
    """Has a state that is not plain."""

    def state_dict(self) -> dict[str, Any]:
        return {"since": [datetime.now(UTC)]}


class Mine(EarlyStopping):
    """A stopping rule of one's own."""


class NoCallback:
    """Not derived from Lightning's class."""

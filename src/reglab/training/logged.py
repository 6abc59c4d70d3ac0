"""Recorder of a job whose module or callbacks log by themselves, as ``logged/<name>``."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from reglab.training.metric_names import storable_name
from reglab.training.recorder import Recorder
from reglab.training.run_logger import RunLogger

LOGGED = "logged/"  # before the names


class LoggedRecorder(Recorder):
    """Records what ``Recorder`` does, and what was logged in the epoch.

    It must be one of the callbacks that Lightning calls last (``Package.late``): the means of an
    epoch are there only then. The Trainer has a ``RunLogger``.
    """

    @property
    def state_key(self) -> str:
        return Recorder.__qualname__

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen: Mapping[str, Any] = {}
        self._trainer = trainer
        super().on_train_start(trainer, pl_module)

    def _metrics(self, rows: Mapping[int, dict[str, float]], epoch: int) -> dict[int, dict[str, float]]:
        now = dict(self._trainer.callback_metrics)
        # A value that the epoch did not log is still there, the same tensor.
        new = {name: value for name, value in now.items() if self._seen.get(name) is not value}
        self._seen = now
        taken = self._trainer.logger.take() if isinstance(self._trainer.logger, RunLogger) else {}
        by_hand = {name: value for name, value in taken.items() if name not in now}
        if epoch:
            values = {name: float(value) for name, value in new.items()} | by_hand
            rows[0].update({f"{LOGGED}{storable_name(name)}": values[name] for name in sorted(values)})
        return super()._metrics(rows, epoch)

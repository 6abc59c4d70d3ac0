"""The same training several ways.

A bare loop, reglab tracked, Lightning with and without its MLflow logger.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail
from reglab.tracking import TrackingSettings, open_run
from reglab.training.experiment import Experiment
from reglab.training.fit import fit, summary
from reglab.training.recipe import Recipe
from reglab.training.recorder import Progress
from reglab.training.trainer import quiet_lightning

BATCH, LR = 64, 1e-3


@dataclass(frozen=True)
class Bench:
    """What every variant trains. store: a SQLite store that is already made.

    Folder: where runs leave their files.
    """

    data: DataSet
    epochs: int
    folder: Path
    store: TrackingSettings
    log_every: int

    @property
    def steps(self) -> int:
        return self.epochs * math.ceil(len(self.data.train) / BATCH)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Clock:
    """Seconds of the training loop (wall and CPU of the process) and of the whole run with its set-up and storing."""

    def __init__(self) -> None:
        self.loop = self.loop_cpu = self.whole = math.nan

    @contextmanager
    def run(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.whole = time.perf_counter() - start

    def begin(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def end(self) -> None:
        self.loop, self.loop_cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def bare(bench: Bench, clock: Clock) -> None:
    """Index a batch, forward, cross entropy, backward, step; nothing is measured or logged."""
    with clock.run():
        model, inputs, targets = bench.model(), bench.data.train.inputs, bench.data.train.targets
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        clock.begin()
        for _ in range(bench.epochs):
            for rows in torch.split(torch.randperm(len(inputs)), BATCH):
                optimizer.zero_grad()
                functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]  # torch's
                optimizer.step()
        clock.end()


def tracked(steps_per_batch: int, every_epoch: bool = True, fused: bool = False) -> Callable[[Bench, Clock], None]:
    """reglab with everything on: gap with intervals, weight statistics, journal, MLflow, checkpoints.

    every_epoch: measured after each epoch, as by default; otherwise before the first and after the
    last alone. fused: the step of Adam in one kernel, ``optimizer.fused=true``: quicker, and
    rounded otherwise than torch's default.
    """
    runs = count()

    def train(bench: Bench, clock: Clock) -> None:
        # Called once more, before the first step, with epoch 0.
        def on_progress(progress: Progress) -> None:
            (clock.end if progress.epoch else clock.begin)()

        with clock.run():
            job = Experiment(
                bench.model(),
                Cocktail({}, 0, "classification"),
                bench.data,
                Recipe(
                    {"_target_": "torch.optim.Adam", "lr": LR} | ({"fused": True} if fused else {}),
                    batch_size=BATCH,
                    steps_per_batch=steps_per_batch,
                    epochs=bench.epochs,
                ),
                MeasureSettings(every=1 if every_epoch else bench.epochs),
                {"accelerator": "cpu", "devices": 1},
            )
            folder = bench.folder / f"reglab-{steps_per_batch}-{every_epoch}-{fused}-{next(runs)}"
            tracker = open_run(
                bench.store, name="bench", folder=folder, config={}, params={}, tags={}, dataset=bench.data
            )
            tracker.summary(summary(fit(job, tracker, on_progress)))
            tracker.finish()

    return train


class Plain(pl.LightningModule):
    """The training as its users write it.

    ``logs`` the training loss each step, as Lightning's tutorials do.
    """

    def __init__(self, model: nn.Module, clock: Clock, logs: bool) -> None:
        super().__init__()
        self.model, self.clock, self.logs = model, clock, logs

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self.model(batch[0]), batch[1])
        if self.logs:
            self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LR)

    def on_train_start(self) -> None:
        self.clock.begin()

    def on_train_end(self) -> None:
        self.clock.end()


def stock(bench: Bench, clock: Clock) -> None:
    """Lightning with MLFlowLogger and its checkpoint each epoch.

    No validation, no bar, no model summary.
    """
    with clock.run():
        logger = MLFlowLogger("bench-stock", tracking_uri=bench.store.uri, artifact_location=bench.store.artifacts)
        options = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": bench.log_every}
        _lightning(bench, clock, logs=True, logger=logger, default_root_dir=bench.folder, **options)


def barebones(bench: Bench, clock: Clock) -> None:
    """Lightning's Trainer(barebones=True): nothing is logged or kept."""
    with clock.run():
        _lightning(bench, clock, logs=False, barebones=True)


def _lightning(bench: Bench, clock: Clock, logs: bool, **options: Any) -> None:
    rows = TensorDataset(bench.data.train.inputs, bench.data.train.targets)
    with quiet_lightning():
        trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=bench.epochs, **options)
        trainer.fit(Plain(bench.model(), clock, logs), DataLoader(rows, batch_size=BATCH, shuffle=True))


VARIANTS: dict[str, Callable[[Bench, Clock], None]] = {
    "bare loop": bare,
    "reglab, 1 step a batch": tracked(1),
    "reglab, 32 steps a batch": tracked(32),
    "reglab, 32, measured once": tracked(32, every_epoch=False),
    "reglab, 32, fused Adam": tracked(32, fused=True),
    "Lightning + MLFlowLogger": stock,
    "Lightning barebones": barebones,
}

"""Check the jobs of a sweep that train a LightningModule, and estimate their cost."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from reglab.config.fingerprint import hash_config
from reglab.config.lightning_loop import uses_lightning_loop
from reglab.core.errors import UserError
from reglab.training import preflight
from reglab.training.check import check_seed
from reglab.training.fused.cost import ROW_BYTES, PackCost
from reglab.training.lightning.prepare import build_job, prepare_module, seeded
from reglab.training.lightning.trained_module import TrainedModule
from reglab.training.preflight import LOADED, Findings
from reglab.training.run_logger import RunLogger
from reglab.training.trainer import quiet_lightning

_TIMED = 5  # steps


def check_jobs(jobs: Mapping[int, Mapping[str, Any]]) -> Findings:
    """Do what ``training.preflight.check_jobs`` does; of a LightningModule and its data, build each
    distinct one.

    Args:
        jobs: Resolved configs, by number.
    """
    own = {number: job for number, job in jobs.items() if uses_lightning_loop(job)}
    findings = preflight.check_jobs({number: job for number, job in jobs.items() if number not in own})
    known: dict[str, str | None] = {}
    for number, job in own.items():
        groups = ("model", "data", "trainer", "optimizer", "scheduler", "measure", "loss", "callbacks")
        methods = {name: (node or {}).get("_target_") for name, node in (job.get("regularizer") or {}).items()}
        key = hash_config({group: job.get(group) for group in groups} | {"methods": methods})
        if key not in known:
            known[key] = _fault(job) if len(known) < LOADED else None
        if fault := known[key]:
            findings.faults.setdefault(fault, []).append(number)
    return findings


def _fault(job: Mapping[str, Any]) -> str | None:
    try:
        with seeded(check_seed(job.get("seed"))):
            build_job(job, job, OmegaConf.create(dict(job)))
    except UserError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise, the jobs would too
        return f"model._target_={job['model'].get('_target_')} cannot be built ({type(error).__name__}: {error})"
    return None


def measure_cost(config: DictConfig) -> PackCost:
    """Return what a job would cost, from a few steps of it; opens no run.

    Args:
        config: As composed.

    Raises:
        UserError: For bad input.
    """
    started = time.perf_counter()
    with seeded(check_seed(config.get("seed"))), quiet_lightning():
        job = prepare_module(config)
        trained = TrainedModule(job.module, job.regularize, job.data.task, {})
        clock = _Clock(trained, job.measure)
        settings = {**job.arguments, "max_epochs": 1, "max_steps": _TIMED, "limit_val_batches": 1}
        settings |= {"num_sanity_val_steps": 0, "logger": RunLogger(Path(tempfile.gettempdir()))}
        trainer = job.package.get("Trainer")(
            **settings,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[job.regularize, clock],
        )
        trainer.fit(job.module, **job.data.sources)
    steps = clock.ended[len(clock.ended) // 2 :]
    step = (steps[-1] - steps[0]) / max(1, len(steps) - 1)
    batches = trainer.num_training_batches
    per_epoch = int(batches) if batches != float("inf") else _TIMED
    total = min(per_epoch * job.epochs, job.arguments.get("max_steps") or per_epoch * job.epochs)
    size = sum(tensor.nbytes for tensor in job.module.state_dict().values())
    return PackCost(
        step_seconds=step,
        solo_step_seconds=step,
        steps=total,
        epochs=job.epochs,
        epoch_seconds=clock.measuring / job.measure.every,
        start_seconds=time.perf_counter() - started - clock.measuring,
        bytes=int(psutil.Process().memory_info().rss),
        disk_bytes=6 * size + (job.epochs // job.measure.every + 1) * clock.values * ROW_BYTES,
    )


class _Clock(pl.Callback):
    """Times steps, and measuring once before them."""

    def __init__(self, trained: TrainedModule, settings: Any) -> None:
        self.trained, self.settings = trained, settings
        self.measuring, self.values = 0.0, 0
        self.ended: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.trained.begin_measuring([], self.settings, None)
        before = time.perf_counter()
        gap, weights = self.trained.measure()
        self.measuring, self.values = time.perf_counter() - before, len(gap) + len(weights)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.ended.append(time.perf_counter())

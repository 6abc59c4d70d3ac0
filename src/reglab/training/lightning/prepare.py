"""Prepare a job in Lightning's own loop: module, data, regularizers and run, from its composed config."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.utilities.seed import isolate_rng

from reglab.callback.batch_evaluation import BatchLoss
from reglab.callback.run_record import OWN_LOSS
from reglab.config.job_request import JobRequest
from reglab.config.lightning_loop import uses_lightning_loop
from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core import secrets
from reglab.core.errors import UserError
from reglab.measures import MeasureSettings, measure_settings
from reglab.tracking import RunSpec, TrackingSettings
from reglab.training import describe
from reglab.training.check import check_seed
from reglab.training.lightning.data_module import ModuleData, build_data
from reglab.training.lightning.trained_module import Regularizing
from reglab.training.lightning.trainer_settings import epochs_of, lightning_arguments
from reglab.training.own_callbacks import build_callbacks
from reglab.training.own_module import Package, build_module, module_class, package_of
from reglab.training.prepare import spec_of
from reglab.training.trainer import quiet_lightning

_LARGEST_SEED = 2**32 - 1  # of NumPy's global generator
_SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_OF_A_BATCH = 2  # parameters: self and batch


@dataclass(frozen=True)
class ModuleJob:
    """A job that can be trained; see ``training.prepare.Prepared``.

    Args:
        config: As composed.
        job: The same, resolved.
        recorded: The same with its interpolations.
        data: What it trains on.
        module: The user's.
        regularize: The callback with its regularizers.
        arguments: Of the ``Trainer``.
        measure: What is measured.
        request: Of the sweep that it belongs to.
        callbacks: The user's.
    """

    config: DictConfig
    job: Mapping[str, Any]
    recorded: Mapping[str, Any]
    data: ModuleData
    module: pl.LightningModule
    package: Package
    regularize: Regularizing
    arguments: Mapping[str, Any]
    measure: MeasureSettings
    request: JobRequest | None = None
    callbacks: Sequence[pl.Callback] = ()

    @property
    def tracking(self) -> TrackingSettings:
        """Where its run is recorded."""
        return TrackingSettings.from_config(self.job["tracking"])

    @property
    def digest(self) -> str:
        """Digest of its data."""
        return self.data.digest

    @property
    def epochs(self) -> int:
        """How many epochs it trains."""
        return epochs_of(self.job["trainer"])

    @property
    def description(self) -> dict[str, Any]:
        """What the module is built from again, for its checkpoints."""
        return {"config": dict(self.recorded), "task": self.data.task or OWN_LOSS}

    def run_spec(self, folder: Path) -> RunSpec:
        """Return what its run is opened with.

        Args:
            folder: Of the run.
        """
        tagged = describe.tags(self.job, self.regularize.cocktail, self.data.task, self.data.digest, self.request)
        return spec_of(self, folder, tagged, self.data, self.measure, describe.strengths(self.regularize.cocktail))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators inside the context, as Lightning's ``seed_everything`` does.

    Generators and environment are afterwards what they were.

    Args:
        seed: Of the job.

    Raises:
        UserError: For a seed that NumPy's generator does not take.
    """
    if seed > _LARGEST_SEED:
        raise UserError(f"seed={seed}: with model=lightning the largest is {_LARGEST_SEED}")
    before = {name: os.environ.get(name) for name in _SEED_VARIABLES}
    try:
        with isolate_rng():
            pl.seed_everything(seed, workers=True, verbose=False)
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@value_errors_as_user_errors("the configuration")
def prepare_module(config: DictConfig, request: JobRequest | None = None) -> ModuleJob:
    """Build what a job in Lightning's own loop trains; call it inside ``seeded``.

    Args:
        config: As composed.
        request: Of the sweep that it belongs to.

    Raises:
        UserError: For bad input, with a message that names the key at fault.
    """
    recorded = {key: value for key, value in describe.recorded_params(config).items() if key != "hydra"}
    secrets.learn(recorded)
    job = {key: value for key, value in describe.plain(config).items() if key != "hydra"}
    return build_job(job, recorded, config, request)


def build_job(
    job: Mapping[str, Any], recorded: Mapping[str, Any], config: DictConfig, request: JobRequest | None = None
) -> ModuleJob:
    """Return what a resolved config describes; call it inside ``seeded``.

    Args:
        job: The config, resolved.
        recorded: The same with its interpolations.
        config: As composed.
        request: Of the sweep that it belongs to.

    Raises:
        UserError: With a message that names the key at fault.
    """
    _check(job)
    arguments = lightning_arguments(job["trainer"])
    package = package_of(module_class(job["model"]))
    assert package is not None
    data = build_data(job["data"], package)
    measure = measure_settings(job["measure"])
    if data.task is None:
        why = "validation_step returns a loss of whole batches: give data.task"
        measure.check_needs(dict.fromkeys(("examples", "outputs", "function"), why))
    if data.task is not None:
        measure.check(data.task, weighted=False)
    elif measure.scores:
        raise UserError(
            "measure.scores are scores of a task: give data.task too, or log them in validation_step, which is measured"
        )
    cocktail = describe.build_cocktail(job["regularizer"], check_seed(job["seed"]), data.task or OWN_LOSS)
    check_trainer(package, arguments)
    module: Any = build_module(job["model"])
    members = dict(cocktail.named_regularizers())
    own = build_callbacks(job.get("callbacks"), own_loop=True)
    regularize = Regularizing(members, data.task, loss=offered_loss(module), seed=job["seed"], every=None)
    return ModuleJob(config, job, recorded, data, module, package, regularize, arguments, measure, request, own)


def check_trainer(package: Package, arguments: Mapping[str, Any]) -> None:
    """Raise UserError where Lightning's Trainer does not take its arguments.

    Args:
        package: Of the module's class.
        arguments: Of the Trainer.
    """
    silent = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    try:
        with quiet_lightning():
            package.get("Trainer")(**arguments, **silent, logger=False)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        package.get("utilities.exceptions.MisconfigurationException"),
    ) as error:
        raise UserError(f"trainer: {error}") from error


def offered_loss(module: pl.LightningModule) -> BatchLoss | None:
    """Return the loss of a batch that a module offers as a method ``loss(batch)``; None if it does
    not.

    Args:
        module: A user's.
    """
    method = getattr(type(module), "loss", None)
    if not inspect.isfunction(method) or len(inspect.signature(method).parameters) != _OF_A_BATCH:
        return None
    return lambda module, batch: module.loss(batch)


def _check(job: Mapping[str, Any]) -> None:
    """Refuse what has no effect where Lightning's own loop trains."""
    for group in ("optimizer", "scheduler"):
        if given := {key: value for key, value in (job.get(group) or {}).items() if value is not None}:
            raise UserError(
                f"{group}.{next(iter(given))} has no effect with model=lightning: the module's configure_optimizers "
                "decides. Give its arguments as +model.lr=..."
            )
    if (job.get("sweep") or {}).get("path"):
        raise UserError("sweep.path has no effect with model=lightning: its jobs begin as the module does")
    if job.get("init_seed") is not None:
        raise UserError("init_seed has no effect with model=lightning: seed seeds all that its code draws")
    if job.get("loss") is not None:
        raise UserError("loss has no effect with model=lightning: the module's training_step computes the loss")
    assert uses_lightning_loop(job)

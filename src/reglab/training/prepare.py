"""Prepare a job: from its composed config to its experiment and its run, alone or in a pack."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf

from reglab import data, models
from reglab.config.job_request import JobRequest, without_request
from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core import secrets
from reglab.data import DataSet
from reglab.measures import MeasureSettings, measure_settings
from reglab.tasks import task_named
from reglab.tracking import RunSpec, TrackingSettings
from reglab.tracking.dataset import DataSetLike
from reglab.training import describe
from reglab.training.check import check_seed
from reglab.training.data_shape import with_data_shape
from reglab.training.experiment import Experiment
from reglab.training.length import take_length
from reglab.training.own_callbacks import build_callbacks
from reglab.training.own_loss import loss_of, with_loss
from reglab.training.recipe import Recipe
from reglab.training.warm_start import warm_start


@dataclass(frozen=True)
class Prepared:
    """A job that can be trained.

    Args:
        config: As composed.
        job: The same, resolved.
        recorded: The same with its interpolations, which may name a secret: what is kept of it.
        experiment: What it describes.
        request: Of the sweep that it belongs to.
    """

    config: DictConfig
    job: Mapping[str, Any]
    recorded: Mapping[str, Any]
    experiment: Experiment
    request: JobRequest | None = None

    @property
    def tracking(self) -> TrackingSettings:
        """Where its run is recorded."""
        return TrackingSettings.from_config(self.job["tracking"])

    @property
    def digest(self) -> str:
        """Digest of its data."""
        return self.experiment.data.digest

    @property
    def epochs(self) -> int:
        """How many epochs it trains."""
        return self.experiment.recipe.epochs

    def run_spec(self, folder: Path) -> RunSpec:
        """Return what its run is opened with.

        Args:
            folder: Of the run.
        """
        experiment = self.experiment
        data = experiment.data
        job = self.job
        if data.batch_size is not None:  # of the code of a LightningDataModule: no config says it
            job = {**job, "data": {**job["data"], "batch_size": data.batch_size}}
        tagged = describe.tags(job, experiment.cocktail, data.task, data.digest, self.request)
        if start := experiment.description.get("start"):
            tagged["reglab.start"] = start
        return spec_of(self, folder, tagged, data, experiment.measure, describe.strengths(experiment.cocktail))


class Described(Protocol):
    """A prepared job, as its run is told of it.

    Attributes:
        config: As composed.
        job: The same, resolved.
        recorded: The same with its interpolations.
        request: Of the sweep that it belongs to.
        epochs: How many it trains.
    """

    @property
    def config(self) -> DictConfig: ...
    @property
    def job(self) -> Mapping[str, Any]: ...
    @property
    def recorded(self) -> Mapping[str, Any]: ...
    @property
    def request(self) -> JobRequest | None: ...
    @property
    def epochs(self) -> int: ...


def spec_of(
    prepared: Described,
    folder: Path,
    tags: Mapping[str, str],
    data: DataSetLike,
    measure: MeasureSettings,
    strengths: Mapping[str, float],
) -> RunSpec:
    """Return what the run of a job is opened with.

    Args:
        prepared: The job.
        folder: Of the run.
        tags: Of the job; those of the command are added.
        data: What it trains on.
        measure: What is measured.
        strengths: Of its regularizers, see ``describe.strengths``.
    """
    tagged = {**tags, **measure.tags, "reglab.command": shlex.join(sys.argv)}
    overrides = OmegaConf.select(prepared.config, "hydra.overrides.task")
    if overrides is not None:
        tagged["reglab.overrides"] = written(overrides)
    return RunSpec(
        name=describe.run_name(prepared.job, tagged),
        folder=folder,
        config=dict(prepared.recorded),
        params=dict(prepared.recorded),
        tags=tagged,
        dataset=data,
        parent=prepared.request.parent or None if prepared.request else None,
        steps=prepared.epochs,
        every=measure.every,
        strengths=strengths,
    )


@value_errors_as_user_errors("the configuration")
def prepare_job(
    config: DictConfig, request: JobRequest | None = None, loaded: dict[str, DataSet] | None = None
) -> Prepared:
    """Load a job's data and build its experiment.

    Args:
        config: As composed.
        request: Of the sweep that it belongs to.
        loaded: Data sets by their ``data`` node, which jobs share; what is missing is added.

    Raises:
        UserError: For bad input, with a message that names the key at fault.
    """
    config = with_data_shape(config)
    recorded = {key: value for key, value in describe.recorded_params(config).items() if key != "hydra"}
    secrets.learn(recorded)
    job = {key: value for key, value in describe.plain(config).items() if key != "hydra"}
    loaded = {} if loaded is None else loaded
    node = json.dumps(job["data"], sort_keys=True, default=str)
    if node not in loaded:
        loaded[node] = data.load(job["data"])
    return Prepared(config, job, recorded, build_experiment(job, loaded[node], recorded, request), request)


def build_experiment(
    job: Mapping[str, Any], loaded: DataSet, recorded: Mapping[str, Any], request: JobRequest | None = None
) -> Experiment:
    """Return what a resolved config describes, the model with the weights that it starts from.

    Args:
        recorded: The same config with its interpolations, which is what the checkpoints keep: they
            may name a secret.

    Raises:
        UserError: With a message that names the key at fault.
    """
    seed = check_seed(job["seed"])
    cocktail = describe.build_cocktail(job["regularizer"], seed, loaded.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed if job.get("init_seed") is None else check_seed(job["init_seed"], "init_seed"))
        documents = task_named(loaded.task).reads == "queries"
        sizes = (loaded.input_shape, loaded.outputs, loaded.tokens)
        model = models.build(job["model"], *sizes, loaded.several, documents)
    start = warm_start(model, request.start if request else None)
    trainer = dict(job["trainer"])
    batch_size = loaded.batch_size or job["data"]["batch_size"]
    loaded = with_loss(loaded, loss_of(job.get("loss")), model, batch_size, repr(job.get("loss")))
    own = build_callbacks(job.get("callbacks"), own_loop=False)
    per_batch = trainer.pop("steps_per_batch", 32)
    recipe = Recipe(
        job["optimizer"],
        job["scheduler"],
        trainer.pop("gradient_clip_norm", None),
        batch_size,
        1 if own else per_batch,  # so that a callback sees each step
        *take_length(trainer, len(loaded.train), batch_size),
        monitor=str(job["measure"].get("monitor", "val/loss")),
    )
    recipe.freeze(model)
    seconds = trainer.pop("checkpoint_seconds", 10.0)
    return Experiment(
        model,
        cocktail,
        loaded,
        recipe,
        measure_settings(job["measure"]),
        trainer,
        {
            "config": recorded,
            "input_shape": list(loaded.input_shape),
            "outputs": loaded.outputs,
            "tokens": loaded.tokens,
            "task": loaded.task,
            **({"several": [[each.name, list(each.shape)] for each in loaded.several]} if loaded.several else {}),
            **({"documents": True} if documents else {}),
            **({"start": start} if start else {}),
        },
        seconds,
        own,
    )


def written(overrides: Any) -> str:
    """Return overrides as typed, their interpolations unresolved: they may name secrets."""
    texts: Any = OmegaConf.to_container(overrides, resolve=False)
    return shlex.join(without_request(texts))

"""The job that ``reglab train`` runs: from a composed config to a finished MLflow run."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from reglab import data, models
from reglab.configure import construct
from reglab.data import DataSet
from reglab.errors import Diverged
from reglab.measures import MeasureSettings
from reglab.tracking import RunTracker, TrackingSettings, open_run
from reglab.training import describe
from reglab.training.experiment import Experiment, check, check_seed, fit, interruptible_again, summary, test_metrics
from reglab.training.notes import run_note
from reglab.training.recipe import Recipe
from reglab.training.recorder import Progress


@dataclass(frozen=True)
class JobResult:
    """How a job ended. metrics: ``final/...`` without its prefix, empty unless it finished."""

    run_id: str
    status: Literal["FINISHED", "FAILED", "KILLED"]
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


@interruptible_again()
def run_job(config: DictConfig, on_progress: Callable[[Progress], None] | None = None) -> JobResult:
    """Train the job that ``config`` describes and record it.

    Raises UserError for bad input, before a run is opened. A loss that diverges ends the run FAILED, Ctrl-C or SIGTERM
    ends it KILLED; neither raises. Any other error ends it FAILED and is raised.
    """
    job = describe.plain(config)
    loaded = data.load(job["data"])
    experiment = build_experiment(job, loaded, describe.recorded_params(config))
    check(experiment)
    tracker = _open(config, job, experiment)
    try:
        final = fit(experiment, tracker, on_progress)
        if experiment.measure.test:
            final |= test_metrics(experiment.model, experiment.cocktail, loaded.test, loaded.task)
        result = summary(final) | {key: value for key, value in final.items() if key.startswith("test/")}
        tracker.summary({key: value for key, value in result.items() if not key.startswith("test/")})
        tracker.log({key: value for key, value in result.items() if key.startswith("test/")}, int(final["epoch"]))
        tracker.note(run_note(loaded, experiment.cocktail, result))
        return _end(tracker, "FINISHED", metrics=result)
    except Diverged as error:
        tracker.tag(**{"reglab.failure": "diverged"})
        return _end(tracker, "FAILED", str(error))
    except KeyboardInterrupt:
        return _end(tracker, "KILLED", "interrupted")
    except BaseException as error:
        _end(tracker, "FAILED", f"{type(error).__name__}: {error}")
        raise


def build_experiment(job: Mapping[str, Any], loaded: DataSet, recorded: Mapping[str, Any]) -> Experiment:
    """Return what a resolved config describes. Raises UserError that names the key at fault.

    recorded: the same config with its interpolations, which is what the checkpoints keep: they may name a secret.
    """
    seed = check_seed(job["seed"])
    cocktail = describe.build_cocktail(job["regularizer"], seed, loaded.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.build(job["model"], loaded.input_shape, loaded.outputs)
    trainer = dict(job["trainer"])
    recipe = Recipe(
        job["optimizer"],
        job["scheduler"],
        trainer.pop("gradient_clip_norm", None),
        job["data"]["batch_size"],
        trainer.pop("steps_per_batch", 32),
        trainer.pop("max_epochs", 50),
    )
    seconds = trainer.pop("checkpoint_seconds", 10.0)
    return Experiment(
        model,
        cocktail,
        loaded,
        recipe,
        construct(MeasureSettings, job["measure"], "measure"),
        trainer,
        {
            "config": recorded,
            "input_shape": list(loaded.input_shape),
            "outputs": loaded.outputs,
            "task": loaded.task,
        },
        seconds,
    )


def _open(config: DictConfig, job: Mapping[str, Any], experiment: Experiment) -> RunTracker:
    tagged = describe.tags(job, experiment.cocktail, experiment.data.task, experiment.data.digest)
    tagged["reglab.command"] = shlex.join(sys.argv)
    folder = Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        tagged["reglab.overrides"] = shlex.join(hydra.overrides.task)
    sweep, tracking = job.get("sweep", {}), job["tracking"]
    rank: int = getattr(rank_zero_only, "rank", 0)
    if rank:  # one run for all ranks; the others keep a journal of their own
        folder, tracking = folder / f"rank{rank}", {**tracking, "name": "none"}
    return open_run(
        TrackingSettings.from_config(tracking),
        name=describe.run_name(job, tagged),
        folder=folder,
        config=describe.recorded_params(config),
        params=describe.recorded_params(config),
        tags=tagged,
        dataset=experiment.data,
        parent=sweep.get("parent"),
    )


def _end(
    tracker: RunTracker,
    status: Literal["FINISHED", "FAILED", "KILLED"],
    message: str = "",
    metrics: Mapping[str, float] | None = None,
) -> JobResult:
    if message:
        tracker.tag(**{"reglab.message": message})
        tracker.note(f"**{status}**: {message}")
    tracker.finish(status)
    return JobResult(tracker.run_id, status, message, metrics or {})

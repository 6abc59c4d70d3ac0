"""Train one job of ``reglab train``, from a composed config to a finished MLflow run."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from reglab import data, models
from reglab.config.instantiate import construct
from reglab.config.job_request import JobRequest, without_request
from reglab.config.trust import trust_config
from reglab.core import secrets
from reglab.core.errors import Diverged, UserError
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, open_runs, reopen_run, run_state
from reglab.tracking.opening import budget
from reglab.tracking.params import write_config
from reglab.tracking.run_state import RunState
from reglab.training import describe
from reglab.training.check import check_experiment, check_seed
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import resumable
from reglab.training.data_shape import with_data_shape
from reglab.training.experiment import Experiment
from reglab.training.fit import fit, test_metrics
from reglab.training.job_result import JobResult, record_failure, record_result
from reglab.training.preflight import log_advice
from reglab.training.recipe import Recipe
from reglab.training.recorder import Progress
from reglab.training.trainer import interruptible_again
from reglab.training.warm_start import warm_start


@interruptible_again()
def run_job(
    config: DictConfig,
    on_progress: Callable[[Progress], None] | None = None,
    resume: RunState | None = None,
    request: JobRequest | None = None,
) -> JobResult:
    """Train the job that ``config`` describes and record it.

    An unfinished run of the same job in the job's folder is resumed: as the same MLflow run, from
    its last checkpoint.

    A loss that diverges ends the run FAILED, Ctrl-C or SIGTERM ends it KILLED; neither raises. Any
    other error ends it FAILED and is raised.

    Args:
        resume: The state of a run to resume in any case, even if finished.
        request: Of the sweep that the job belongs to.

    Raises:
        UserError: For bad input, before a run is opened.
    """
    trust_config(config)
    config = with_data_shape(config)
    secrets.learn(describe.recorded_params(config))
    job = describe.plain(config)
    loaded = data.load(job["data"])
    experiment = build_experiment(job, loaded, describe.recorded_params(config), request)
    check_experiment(experiment)
    if request is None or not request.parent:
        log_advice(experiment)
    spec = _spec(config, job, experiment, resume, request)
    tracker, checkpoint = _open(spec, job, experiment, resume)
    try:
        final = fit(experiment, tracker, on_progress, checkpoint)
        if experiment.measure.test:
            final |= test_metrics(experiment.model, experiment.cocktail, loaded, experiment.measure)
        result = record_result(tracker, experiment, final)
    except Diverged as error:
        result = record_failure(tracker, "FAILED", str(error), failure="diverged")
    except KeyboardInterrupt:
        result = record_failure(tracker, "KILLED", "interrupted")
    except BaseException as error:
        record_failure(tracker, "FAILED", f"{type(error).__name__}: {error}")
        tracker.finish("FAILED")
        raise
    tracker.finish(result.status)
    return result


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
        torch.manual_seed(seed)
        model = models.build(job["model"], loaded.input_shape, loaded.outputs, loaded.tokens)
    start = warm_start(model, request.start if request else None)
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
            "tokens": loaded.tokens,
            "task": loaded.task,
            **({"start": start} if start else {}),
        },
        seconds,
    )


def run_spec(
    config: DictConfig, job: Mapping[str, Any], experiment: Experiment, folder: Path, request: JobRequest | None = None
) -> RunSpec:
    """Return what the run of a job is opened with.

    Args:
        job: ``config``, resolved.
    """
    tagged = describe.tags(job, experiment.cocktail, experiment.data.task, experiment.data.digest, request)
    tagged["reglab.command"] = shlex.join(sys.argv)
    if start := experiment.description.get("start"):
        tagged["reglab.start"] = start
    overrides = OmegaConf.select(config, "hydra.overrides.task")
    if overrides is not None:
        tagged["reglab.overrides"] = written(overrides)
    recorded = describe.recorded_params(config)
    recorded.pop("hydra", None)
    return RunSpec(
        name=describe.run_name(job, tagged),
        folder=folder,
        config=recorded,
        params=recorded,
        tags=tagged,
        dataset=experiment.data,
        parent=request.parent or None if request else None,
        steps=experiment.recipe.epochs,
        every=experiment.measure.every,
    )


def written(overrides: Any) -> str:
    """Return overrides as typed, their interpolations unresolved: they may name secrets."""
    texts: Any = OmegaConf.to_container(overrides, resolve=False)
    return shlex.join(without_request(texts))


def _spec(
    config: DictConfig,
    job: Mapping[str, Any],
    experiment: Experiment,
    resume: RunState | None,
    request: JobRequest | None,
) -> RunSpec:
    folder = resume.folder if resume else Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    spec = run_spec(config, job, experiment, folder, request)
    if not HydraConfig.initialized() or resume:
        return spec
    hydra = HydraConfig.get()
    tags = {**spec.tags, "reglab.overrides": written(hydra.overrides.task)}
    return replace(spec, folder=Path(hydra.runtime.output_dir), tags=tags)


def _open(
    spec: RunSpec, job: Mapping[str, Any], experiment: Experiment, resume: RunState | None
) -> tuple[RunTracker, Checkpoint | None]:
    """Return the tracker of the job's run, new or resumed, and the checkpoint to resume from, if
    any.
    """
    found = resume or run_state.read_state(spec.folder)
    earlier = found if resume or (found and found.is_resumed_by(spec.tags)) else None
    if resume and resume.tags.get(run_state.DIGEST) != experiment.data.digest:
        raise UserError(
            f"the run in {resume.folder} was trained on other data, so it cannot be resumed; restore them, or train a "
            "new run"
        )
    checkpoint = resumable(spec.folder / "checkpoints") if earlier else None
    rank: int = getattr(rank_zero_only, "rank", 0)
    if rank:  # one run for all ranks; the others keep a journal of their own
        spec, tracking = replace(spec, folder=spec.folder / f"rank{rank}"), {**job["tracking"], "name": "none"}
        return open_runs(TrackingSettings.from_config(tracking), [spec])[0], checkpoint
    if earlier:
        rule = None
        if earlier.tags.get(run_state.EPOCHS) != str(experiment.recipe.epochs):  # longer than its budget was made for
            rule = budget(TrackingSettings.from_config(job["tracking"]), spec)
        tracker = reopen_run(spec.folder, rule)
        tracker.tag(**run_state.resume_tags(earlier, experiment.recipe.epochs))
        if resume:
            write_config(spec.folder / "config.yaml", spec.config, {})
            tracker.artifact(spec.folder / "config.yaml")
    else:
        (tracker,) = open_runs(TrackingSettings.from_config(job["tracking"]), [spec])
    tracker.tag(**run_state.initial_tags(spec.tags, experiment.data.digest, experiment.recipe.epochs))
    return tracker, checkpoint

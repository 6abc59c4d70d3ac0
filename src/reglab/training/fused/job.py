"""Train a pack of jobs (``hydra/launcher=fused``): from composed configs to MLflow runs."""

import ctypes
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig

from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import PackSettings
from reglab.core.errors import Unfused
from reglab.data import DataSet
from reglab.tracking import RunSpec, RunTracker, open_runs, pack_manifest
from reglab.tracking.pack_manifest import Manifest
from reglab.training.check import check_experiment
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.experiment import Experiment
from reglab.training.fused.autotune import Choices, choose, halves
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import PackCheckpoints
from reglab.training.fused.compile_callback import COMPILED, CompileCallback
from reglab.training.fused.finalize import PackFinalizer, finalizing
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.resume import InterruptedPack, end_open, find_interrupted, manifest_of, record_start
from reglab.training.job_result import JobResult
from reglab.training.prepare import Prepared, prepare_job
from reglab.training.process_state import process_restored
from reglab.training.recorder import Progress
from reglab.training.trainer import build_trainer, quiet_lightning, run_trainer

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # of glibc's malloc.h
_log = logging.getLogger(__name__)
_LOST = "no checkpoint of their pack can be read any more, or their data changed: from the start"


@process_restored()
def run_pack(
    configs: Sequence[DictConfig],
    folders: Sequence[Path],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, JobResult], None],
    requests: Sequence[JobRequest] | None = None,
) -> None:
    """Train the jobs that ``configs`` describe as one pack, and record each as the run that it
    would be alone.

    An interrupted pack of the same jobs is resumed from its checkpoint, as the same runs and with
    the same bits; jobs whose training is over are reported at once. Otherwise all of them start.

    Args:
        configs: composed.
        folders: Of their runs.
        on_end: Called once for each job, by its position, when it ends. Any other error ends what
            is left and is raised.
        requests: Of the jobs' sweep; None outside of one.

    Raises:
        UserError: For bad input and Unfused for jobs that do not fit together, both before a run is
            opened; Unfused also where memory ran out later, for the jobs that had not ended.
    """
    jobs = prepare_jobs(configs, requests or [JobRequest(number) for number in range(len(configs))])
    experiments = [job.experiment for job in jobs]
    specs = [job.run_spec(folder) for job, folder in zip(jobs, folders, strict=True)]
    interrupted = find_interrupted(specs)
    if interrupted:
        interrupted.report_ended(on_end)
    if interrupted and not interrupted.unfinished():
        pack_manifest.remove(specs[0].folder)
        return
    if interrupted and interrupted.lost:
        interrupted.give_up(_LOST)
        if interrupted.ended:
            raise Unfused(_LOST, [interrupted.unfinished()])
        _log.warning("%d jobs train in 1 pack: %s", len(specs), _LOST)
        interrupted = None
    if interrupted and interrupted.checkpoint:  # which brings the choices along
        module, trackers, manifest = (
            PackModule(_build_pack(experiments, settings)),
            interrupted.reopen(specs),
            interrupted.manifest,
        )
    else:
        module, trackers, manifest = _start_runs(jobs, specs, settings, interrupted)
    finalizer = PackFinalizer(module, trackers, Best(module.pack, experiments[0].measure.monitor), on_end)
    with finalizing(finalizer, specs[0].folder):
        finalizer.recorder = PackRecorder(module, finalizer.best, trackers, on_progress, finalizer.end)
        fit_pack(module, finalizer.recorder, manifest, interrupted.checkpoint if interrupted else None)
        finalizer.end(dict.fromkeys(finalizer.unfinished()))
        pack_manifest.remove(specs[0].folder)


def _start_runs(
    jobs: Sequence[Prepared], specs: Sequence[RunSpec], settings: PackSettings, interrupted: InterruptedPack | None
) -> tuple[PackModule, list[RunTracker | None], Manifest]:
    """Return a pack at its first step, with its runs. interrupted: one that had its runs, but died
    before that step.
    """
    try:
        pack, choices = prepare([job.experiment for job in jobs], settings)
    except Unfused as error:
        if interrupted:
            interrupted.give_up(f"trained in another way: {error.reason}")
        raise
    if interrupted:
        return PackModule(pack), interrupted.reopen(specs), interrupted.manifest
    specs = [replace(spec, tags={**spec.tags, **_tags(pack, choices)}) for spec in specs]
    end_open([spec.folder for spec in specs], "its process was gone before it trained")
    trackers = open_runs(jobs[0].tracking, specs)
    for spec in specs:  # of packs that were here before, and came to nothing
        pack_manifest.remove(spec.folder)
    manifest = manifest_of(specs, [job.request.number for job in jobs if job.request])
    manifest.write(steps=0)
    record_start(trackers, specs, **_tags(pack, choices))
    return PackModule(pack), list(trackers), manifest


def _build_pack(experiments: Sequence[Experiment], settings: PackSettings) -> Pack:
    """Return the pack of the jobs on its device. Raises Unfused, UserError."""
    keep_freed_memory()
    check_experiment(experiments[0])  # the others differ in numbers only
    pack = Pack(experiments, settings)
    with quiet_lightning():
        pack.to(build_trainer(experiments[0], []).strategy.root_device)
    return pack


def prepare(experiments: Sequence[Experiment], settings: PackSettings) -> tuple[Pack, Choices]:
    """Return the pack of the jobs, on its device, with its choices made.

    Args:
        experiments: The jobs.
        settings: Of the pack.

    Raises:
        Unfused
        UserError
    """
    pack = _build_pack(experiments, settings)
    try:
        choices = choose(pack, settings.compile, settings.always)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Unfused(f"{len(pack)} members need more memory than there is", halves(len(pack))) from error
    now = choices.compiled and (choices.ready or bool(settings.compile))
    pack.choose(now, choices.lowering, choices.ragged, choices.compiled and not now)  # else while it trains
    return pack, choices


def fit_pack(module: PackModule, recorder: PackRecorder, manifest: Manifest, resume: Checkpoint | None = None) -> None:
    """Train a pack with Lightning.

    Args:
        manifest: Names the folder of the pack's checkpoint, and records the pack there.
    """
    first = module.pack.experiments[0]
    with quiet_lightning():
        checkpoints = PackCheckpoints(module, manifest, first.checkpoint_seconds)
        trainer = build_trainer(first, [recorder, CompileCallback(module, checkpoints, recorder), checkpoints])
        run_trainer(trainer, module, {"train_dataloaders": module.loader()}, resume)


def prepare_jobs(configs: Sequence[DictConfig], requests: Sequence[JobRequest] | None = None) -> list[Prepared]:
    """Return the jobs with their experiments; equal ``data`` nodes are loaded once.

    Args:
        configs: Of the jobs, composed.
        requests: Of the jobs' sweep; None outside of one.

    Raises:
        Unfused: Where some of them are wrong, so that the others can train: those together, each
            wrong one alone.
    """
    loaded: dict[str, DataSet] = {}
    prepared: dict[int, Prepared] = {}
    errors: dict[int, Exception] = {}
    for job_index, config in enumerate(configs):
        try:
            prepared[job_index] = prepare_job(config, requests[job_index] if requests else None, loaded)
        except Exception as error:  # noqa: BLE001 - also what a user's model raises: its neighbours are to train
            errors[job_index] = error
    if errors and len(configs) == 1:
        raise errors[0]
    if errors:
        groups = [list(prepared), *([job_index] for job_index in errors)]
        raise Unfused(f"{len(errors)} of {len(configs)} cannot run", [group for group in groups if group])
    return list(prepared.values())


def _tags(pack: Pack, choices: Choices) -> Mapping[str, str]:
    return {"reglab.fused": str(len(pack)), COMPILED: str(choices.compiled).lower()}


def keep_freed_memory() -> None:
    """Keep glibc's malloc from returning freed memory to the system; nothing without glibc.

    A stacked tensor has megabytes, and glibc gives such blocks back to the system, which clears
    each page anew at every operation: that took up to half of a step that was not compiled.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    for name, value in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
        mallopt(name, value)

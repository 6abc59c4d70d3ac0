"""The pack of jobs that a worker of ``hydra/launcher=fused`` trains: from composed configs to finished MLflow runs."""

import ctypes
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from reglab import data
from reglab.config.pack_settings import PackSettings
from reglab.config.trust import trust_config
from reglab.core.errors import Unfused
from reglab.data import DataSet
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, open_runs, pack_manifest
from reglab.tracking.pack_manifest import Manifest
from reglab.training import describe
from reglab.training.check import check
from reglab.training.data_shape import matched
from reglab.training.experiment import Experiment
from reglab.training.fused.autotune import Choices, choose, halves
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import PackCheckpoints
from reglab.training.fused.compile_callback import COMPILED, CompileCallback
from reglab.training.fused.finalize import Endings, ending
from reglab.training.fused.module import Fused
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.resume import Earlier, begin, earlier, end_open, manifest_of
from reglab.training.job import build_experiment, run_spec
from reglab.training.job_result import JobResult
from reglab.training.recorder import Progress
from reglab.training.trainer import build_trainer, interruptible_again, quiet_lightning, run_trainer

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # of glibc's malloc.h
_log = logging.getLogger(__name__)
_LOST = "no checkpoint of their pack can be read any more, or their data changed: from the start"


@interruptible_again()
def run_pack(
    configs: Sequence[DictConfig],
    folders: Sequence[Path],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, JobResult], None],
) -> None:
    """Train the jobs that ``configs`` describe as one pack, and record each as the run that it would be alone.

    Where a pack of these very jobs was cut short, it goes on from its checkpoint, as the same runs and with the same
    bits; jobs whose training is over are told at once. Otherwise all of them begin.

    configs: composed. folders: of their runs. on_end: called once for each job, by its position,
    when it ends. Raises UserError for bad input and Unfused for jobs that do not fit together, both before a run is
    opened; Unfused also where memory ran out later, for the jobs that had not ended. Any other error ends what is left
    and is raised.
    """
    configs = _matched(configs)
    experiments, specs = _prepared(configs, folders)
    found = earlier(specs)
    if found:
        found.tell(on_end)
    if found and not found.left():
        pack_manifest.remove(specs[0].folder)
        return
    if found and found.lost:
        found.give_up(_LOST)
        if found.ended:
            raise Unfused(_LOST, [found.left()])
        _log.warning("%d jobs train in 1 pack: %s", len(specs), _LOST)
        found = None
    if found and found.checkpoint:  # which brings the choices along
        module, trackers, kept = Fused(_placed(experiments, settings)), found.reopen(specs), found.manifest
    else:
        module, trackers, kept = _begun(configs, experiments, specs, settings, found)
    endings = Endings(trackers, Best(module.pack, experiments[0].measure.monitor), on_end)
    with ending(module, endings, specs[0].folder):
        endings.recorder = PackRecorder(endings.best, trackers, on_progress, endings.end)
        train(module, endings.recorder, kept, found.checkpoint if found else None)
        endings.end(module, dict.fromkeys(endings.left()))
        pack_manifest.remove(specs[0].folder)


def _begun(
    configs: Sequence[DictConfig],
    experiments: Sequence[Experiment],
    specs: Sequence[RunSpec],
    settings: PackSettings,
    found: Earlier | None,
) -> tuple[Fused, list[RunTracker | None], Manifest]:
    """Return a pack at its first step, with its runs. found: one that had its runs, but died before that step."""
    try:
        pack, choices = prepare(experiments, settings)
    except Unfused as error:
        if found:
            found.give_up(f"trained in another way: {error.reason}")
        raise
    if found:
        return Fused(pack), found.reopen(specs), found.manifest
    specs = [replace(spec, tags={**spec.tags, **_tags(pack, choices)}) for spec in specs]
    end_open([spec.folder for spec in specs], "its process was gone before it trained")
    trackers = open_runs(TrackingSettings.from_config(describe.plain(configs[0])["tracking"]), specs)
    for spec in specs:  # of packs that were here before, and came to nothing
        pack_manifest.remove(spec.folder)
    kept = manifest_of(specs, [int(OmegaConf.select(config, "sweep.job") or 0) for config in configs])
    kept.write(steps=0)
    begin(trackers, specs, **_tags(pack, choices))
    return Fused(pack), list(trackers), kept


def _placed(experiments: Sequence[Experiment], settings: PackSettings) -> Pack:
    """Return the pack of the jobs on its device. Raises Unfused, UserError."""
    keep_freed_memory()
    check(experiments[0])  # the others differ in numbers only
    pack = Pack(experiments, settings)
    with quiet_lightning():
        pack.to(build_trainer(experiments[0], []).strategy.root_device)
    return pack


def prepare(experiments: Sequence[Experiment], settings: PackSettings) -> tuple[Pack, Choices]:
    """Return the pack of the jobs, on its device, with its choices made. Raises Unfused, UserError."""
    pack = _placed(experiments, settings)
    try:
        choices = choose(pack, settings.compile, settings.always)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Unfused(f"{len(pack)} members need more memory than there is", halves(len(pack))) from error
    now = choices.compiled and (choices.ready or bool(settings.compile))
    pack.choose(now, choices.lowering, choices.ragged, choices.compiled and not now)  # else while it trains
    return pack, choices


def train(module: Fused, recorder: PackRecorder, kept: Manifest, resume: Path | None = None) -> None:
    """Let Lightning train a pack. kept: where its state is kept in the meantime, and what of it is told there."""
    first = module.pack.experiments[0]
    with quiet_lightning():
        checkpoints = PackCheckpoints(kept, first.checkpoint_seconds)
        trainer = build_trainer(first, [recorder, CompileCallback(checkpoints, recorder), checkpoints])
        run_trainer(trainer, module, module.loader(), resume)


def _matched(configs: Sequence[DictConfig]) -> list[DictConfig]:
    for config in configs:
        trust_config(config)
    return [matched(config) for config in configs]


def load_experiments(configs: Sequence[DictConfig]) -> tuple[list[dict[str, Any]], list[Experiment]]:
    """Return the resolved configs and what they describe; equal ``data`` nodes are loaded once.

    Raises Unfused where some of them are wrong, so that the others can train: those together, each wrong one alone.
    """
    configs = _matched(configs)
    jobs = [{k: v for k, v in describe.plain(config).items() if k != "hydra"} for config in configs]
    loaded: dict[str, DataSet] = {}
    experiments: dict[int, Experiment] = {}
    wrong: dict[int, Exception] = {}
    for place, (config, job) in enumerate(zip(configs, jobs, strict=True)):
        node = json.dumps(job["data"], sort_keys=True, default=str)
        recorded = {key: value for key, value in describe.recorded_params(config).items() if key != "hydra"}
        try:
            if node not in loaded:
                loaded[node] = data.load(job["data"])
            experiments[place] = build_experiment(job, loaded[node], recorded)
        except Exception as error:  # noqa: BLE001 - also what a user's model raises: its neighbours are to train
            wrong[place] = error
    if wrong and len(configs) == 1:
        raise wrong[0]
    if wrong:
        groups = [list(experiments), *([place] for place in wrong)]
        raise Unfused(f"{len(wrong)} of {len(configs)} cannot run", [group for group in groups if group])
    return jobs, list(experiments.values())


def _prepared(configs: Sequence[DictConfig], folders: Sequence[Path]) -> tuple[list[Experiment], list[RunSpec]]:
    jobs, experiments = load_experiments(configs)
    specs = [
        run_spec(config, job, experiment, folder)
        for config, job, experiment, folder in zip(configs, jobs, experiments, folders, strict=True)
    ]
    return experiments, specs


def _tags(pack: Pack, choices: Choices) -> Mapping[str, str]:
    return {"reglab.fused": str(len(pack)), COMPILED: str(choices.compiled).lower()}


def keep_freed_memory() -> None:
    """Let this process keep what it frees; nothing happens where there is no glibc.

    A stacked tensor has megabytes, and glibc gives such blocks back to the system, which clears each page anew at every
    operation: that took up to half of a step that was not compiled.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    for name, value in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
        mallopt(name, value)

"""The pack of jobs that a worker of ``hydra/launcher=fused`` trains: from composed configs to finished MLflow runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from reglab import data
from reglab.data import DataSet
from reglab.errors import Unfused, UserError
from reglab.tracking import RunSpec, TrackingSettings, open_runs
from reglab.training import describe
from reglab.training.ending import JobResult
from reglab.training.experiment import (
    Experiment,
    build_trainer,
    check,
    interruptible_again,
    quiet_lightning,
    run_trainer,
)
from reglab.training.fused.allocator import keep_freed_memory
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import PackCheckpoints
from reglab.training.fused.choices import Choices, choose, halves
from reglab.training.fused.ending import Endings
from reglab.training.fused.module import Fused
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.settings import PackSettings
from reglab.training.job import build_experiment, run_spec
from reglab.training.recorder import Progress


@interruptible_again()
def run_pack(
    configs: Sequence[DictConfig],
    folders: Sequence[Path],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, JobResult], None],
) -> None:
    """Train the jobs that ``configs`` describe as one pack, and record each as the run that it would be alone.

    configs: composed. folders: of their runs. on_end: called once for each job, by its position,
    when it ends. Raises UserError for bad input and Unfused for jobs that do not fit together, both before a run is
    opened; Unfused also where memory ran out later, for the jobs that had not ended. Any other error ends what is left
    FAILED and is raised.
    """
    experiments, specs = _prepared(configs, folders)
    pack, choices = prepare(experiments, settings)
    specs = [replace(spec, tags={**spec.tags, **_tags(pack, choices)}) for spec in specs]
    trackers = open_runs(TrackingSettings.from_config(describe.plain(configs[0])["tracking"]), specs)
    module, best = Fused(pack), Best(pack, experiments[0].measure.monitor)
    endings = Endings(trackers, best, on_end)
    try:
        endings.recorder = PackRecorder(best, trackers, on_progress, endings.end)
        train(module, endings.recorder, specs[0].folder / "pack.ckpt")
        endings.end(module, dict.fromkeys(endings.left()))
    except KeyboardInterrupt:
        endings.rest(module, "KILLED", "interrupted")
    except (torch.OutOfMemoryError, MemoryError) as error:
        left = endings.left()
        endings.rest(module, "KILLED", "out of memory: trained again in a smaller pack")
        groups = [[left[row] for row in half] for half in halves(len(left))]
        raise Unfused(f"{len(left)} members ran out of memory", [group for group in groups if group]) from error
    except BaseException as error:
        endings.rest(module, "FAILED", f"{type(error).__name__}: {error}")
        raise


def prepare(experiments: Sequence[Experiment], settings: PackSettings) -> tuple[Pack, Choices]:
    """Return the pack of the jobs, on its device, with its choices made. Raises Unfused, UserError."""
    keep_freed_memory()
    check(experiments[0])  # the others differ in numbers only
    pack = Pack(experiments)
    with quiet_lightning():
        pack.to(build_trainer(experiments[0], []).strategy.root_device)
    try:
        choices = choose(pack, settings.compile, settings.always)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Unfused(f"{len(pack)} members need more memory than there is", halves(len(pack))) from error
    pack.choose(choices.compiled, choices.lowering, choices.ragged)
    return pack, choices


def train(module: Fused, recorder: PackRecorder, checkpoint: Path, resume: Path | None = None) -> None:
    """Let Lightning train a pack; ``checkpoint`` is where its state is kept in the meantime."""
    first = module.pack.experiments[0]
    with quiet_lightning():
        trainer = build_trainer(first, [recorder, PackCheckpoints(checkpoint, first.checkpoint_seconds)])
        run_trainer(trainer, module, module.loader(), resume)


def load_experiments(configs: Sequence[DictConfig]) -> tuple[list[dict[str, Any]], list[Experiment]]:
    """Return the resolved configs and what they describe; equal ``data`` nodes are loaded once.

    Raises Unfused where some of them are wrong, so that the others can train: those together, each wrong one alone.
    """
    jobs = [{k: v for k, v in describe.plain(config).items() if k != "hydra"} for config in configs]
    loaded: dict[str, DataSet] = {}
    experiments: dict[int, Experiment] = {}
    wrong: dict[int, UserError] = {}
    for place, (config, job) in enumerate(zip(configs, jobs, strict=True)):
        node = json.dumps(job["data"], sort_keys=True, default=str)
        recorded = {key: value for key, value in describe.recorded_params(config).items() if key != "hydra"}
        try:
            if node not in loaded:
                loaded[node] = data.load(job["data"])
            experiments[place] = build_experiment(job, loaded[node], recorded)
        except UserError as error:
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
    return {"reglab.fused": str(len(pack)), "reglab.compiled": str(choices.compiled).lower()}

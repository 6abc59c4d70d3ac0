"""Cost estimate of jobs from a few timed steps, for ``sweep.dry=true``."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from omegaconf import DictConfig

from reglab.config.pack_settings import PackSettings
from reglab.measures.weights import STATISTICS
from reglab.regularizers import Batch
from reglab.regularizers.select import selected
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment
from reglab.training.fused.autotune import JOB_OVERHEAD, solo_step
from reglab.training.fused.benchmark import seconds
from reglab.training.fused.job import prepare, prepare_jobs
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.member import Member
from reglab.training.loader import Steps
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from reglab.training.trainer import build_trainer, quiet_lightning

ROW_BYTES = 295  # of a metric in MLflow's SQLite tables
_LIGHTNING = 0.15e-3  # seconds a step that Lightning and the hooks take beside the bare step of a job alone


@dataclass(frozen=True)
class PackCost:
    """Measured time and memory of jobs.

    Args:
        step_seconds: Of one step of all jobs; of one alone where it is one.
        steps: To be done.
        epochs: To be done.
        epoch_seconds: Of measuring, for an epoch.
        start_seconds: Before the first step, compiling included.
        bytes: Of memory, the process included.
        disk_bytes: Of checkpoints and metric rows.
    """

    step_seconds: float
    solo_step_seconds: float
    steps: int
    epochs: int
    epoch_seconds: float
    start_seconds: float
    bytes: int
    disk_bytes: int


def measure_cost(configs: Sequence[DictConfig], settings: PackSettings) -> PackCost:
    """Return what the jobs would cost, as one pack if they are several.

    Raises Unfused, UserError; opens no run.

    Args:
        configs: Of the jobs, composed.
        settings: Of the pack.
    """
    experiments = [job.experiment for job in prepare_jobs(configs)]
    first = experiments[0]
    if len(experiments) == 1:
        return _solo_cost(first)
    pack, choices = prepare(experiments, settings)
    measurement = PackMeasurement([job.data for job in experiments], first.measure, pack.stack.device, pack.dtype)
    measurement.begin(pack)
    measuring = seconds(lambda: (measurement.gap(pack), measurement.weights(pack)), pack.stack.device)
    size = pack.stack.bytes()
    return PackCost(
        step_seconds=choices.step,
        solo_step_seconds=choices.solo,
        steps=pack.loader.total,
        epochs=first.recipe.epochs,
        epoch_seconds=measuring / first.measure.every,
        start_seconds=choices.start,
        bytes=_process_bytes() + choices.peak + 2 * size,
        disk_bytes=2 * size + _rows(first) * len(pack) * ROW_BYTES,
    )


def _solo_cost(experiment: Experiment) -> PackCost:
    check_experiment(experiment)
    with quiet_lightning():
        device = build_trainer(experiment, []).strategy.root_device
    member = Member(experiment.model, experiment.cocktail).to(device)
    data, recipe, dtype = experiment.data, experiment.recipe, next(member.parameters()).dtype
    part = data.train.to(device)
    rows = slice(recipe.batch_size)
    one = torch.ones((), dtype=dtype, device=device)
    inputs = part.inputs[rows].to(device)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    batch = Batch(inputs, [(one, part.targets[rows])], part.index[rows])
    step = seconds(solo_step(member, data.criterion, recipe, batch), device, 3) + _LIGHTNING
    if data.streamed:  # read beside the step; reckoned as by one worker
        step = max(step, seconds(lambda: part.inputs[rows], device, 3))
    measurement = Measurement(gap_rows([data], experiment.measure, device, dtype), experiment.measure)
    measurement.begin(member.model)
    measuring = seconds(
        lambda: (
            measurement.gap(member.model, member.cocktail),
            measurement.weights(member.model, member.cocktail),
        ),
        device,
    )
    size = sum(tensor.nbytes for tensor in member.state_dict().values())
    return PackCost(
        step_seconds=step,
        solo_step_seconds=step,
        steps=Steps(len(data.train), recipe.batch_size, 0, recipe, lambda: 0).total,
        epochs=recipe.epochs,
        epoch_seconds=measuring / experiment.measure.every,
        start_seconds=JOB_OVERHEAD,
        bytes=_process_bytes() + 6 * size,
        disk_bytes=4 * size + _rows(experiment) * ROW_BYTES,
    )


def _rows(experiment: Experiment) -> int:
    """Return about how many metric rows a job sends to its store, the budget of points aside."""
    layers = len(selected(experiment.model, "weights")) if experiment.measure.per_layer else 0
    measured = experiment.recipe.epochs // experiment.measure.every + 1
    return measured * (20 + len(STATISTICS) * (1 + layers))


def _process_bytes() -> int:
    return int(psutil.Process().memory_info().rss)

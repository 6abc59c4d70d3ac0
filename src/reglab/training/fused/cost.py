"""Cost estimate of jobs from a few timed steps, for ``sweep.dry=true``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psutil
import torch
from omegaconf import DictConfig

from reglab.config.pack_settings import PackSettings
from reglab.distributed.parameters import LocalParameters
from reglab.measures import Gap, Measure, Measured, MeasureSettings
from reglab.measures.weights import STATISTICS
from reglab.regularizers import Batch
from reglab.regularizers.select import selected
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment
from reglab.training.fused.autotune import JOB_OVERHEAD, solo_step
from reglab.training.fused.benchmark import seconds
from reglab.training.fused.job import prepare, prepare_jobs
from reglab.training.fused.measured_pack import MeasuredPack
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.member import Member
from reglab.training.loader import Steps
from reglab.training.measured_model import MeasuredModel
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from reglab.training.measuring import taken
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
        measures: Seconds that each measure takes in all, by name, the gap first: those of the
            evaluation are the gap's.
    """

    step_seconds: float
    solo_step_seconds: float
    steps: int
    epochs: int
    epoch_seconds: float
    start_seconds: float
    bytes: int
    disk_bytes: int
    measures: Mapping[str, float] = field(default_factory=dict)


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

    def view() -> MeasuredPack:
        return MeasuredPack(measurement, pack, pack.stack, pack.job_indices, 1, last=True)

    measures = _measure_seconds(view, first, pack.stack.device)
    size = pack.stack.bytes()
    return PackCost(
        step_seconds=choices.step,
        solo_step_seconds=choices.solo,
        steps=pack.loader.total,
        epochs=first.recipe.epochs,
        epoch_seconds=sum(measures.values()) / first.recipe.epochs,
        start_seconds=choices.start,
        bytes=_process_bytes() + choices.peak + 2 * size,
        disk_bytes=2 * size + _rows(first) * len(pack) * ROW_BYTES,
        measures=measures,
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

    def view() -> MeasuredModel:
        measurement.evaluations = None
        return MeasuredModel(measurement, LocalParameters(member.model), member.cocktail, 1, last=True)

    measures = _measure_seconds(view, experiment, device)
    size = sum(tensor.nbytes for tensor in member.state_dict().values())
    return PackCost(
        step_seconds=step,
        solo_step_seconds=step,
        steps=Steps(len(data.train), recipe.batch_size, 0, recipe, lambda: 0).total,
        epochs=recipe.epochs,
        epoch_seconds=sum(measures.values()) / recipe.epochs,
        start_seconds=JOB_OVERHEAD,
        bytes=_process_bytes() + 6 * size,
        disk_bytes=4 * size + _rows(experiment) * ROW_BYTES,
        measures=measures,
    )


def _measure_seconds(view: Callable[[], Measured], experiment: Experiment, device: torch.device) -> dict[str, float]:
    """Return the seconds that each measure takes until training has ended, by name."""
    settings, epochs = experiment.measure, experiment.recipe.epochs
    shared, found = view(), dict[str, float]()
    taken(shared, settings.named, {})  # so that rows are evaluated: the gap pays for that
    for name, each in settings.named.items():
        fresh = isinstance(each, Gap)
        took = seconds(partial(_taken, view if fresh else lambda: shared, name, each), device)
        found[name] = took * calls_of(settings, each, epochs)
    return found


def _taken(view: Callable[[], Measured], name: str, measure: Measure) -> None:
    taken(view(), {name: measure}, {})


def calls_of(settings: MeasureSettings, measure: Measure, epochs: int) -> int:
    """Return how often a measure is taken in a run.

    Args:
        settings: Of all measures.
        measure: One of them.
        epochs: That are trained.
    """
    every = settings.every if measure.every is None else measure.every
    return 1 if every == "end" else epochs // int(every) + 1


def _rows(experiment: Experiment) -> int:
    """Return about how many metric rows a job sends to its store, the budget of points aside."""
    layers = len(selected(experiment.model, "weights")) if experiment.measure.per_layer else 0
    measured = experiment.recipe.epochs // experiment.measure.every + 1
    return measured * (20 + len(STATISTICS) * (1 + layers))


def _process_bytes() -> int:
    return int(psutil.Process().memory_info().rss)

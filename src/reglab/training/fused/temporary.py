"""Train experiments in packs, their runs in temporary folders: what each comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reglab.analysis.per_example_file import FILE, Examples, read
from reglab.config.pack_settings import PackSettings
from reglab.core.errors import Diverged, Unfused
from reglab.tracking import RunSpec, TrackingSettings, open_run, open_runs
from reglab.tracking.run_state import FINGERPRINT
from reglab.training import checkpoint_files
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.fused.best import Best
from reglab.training.fused.finalize import PackFinalizer, finalizing
from reglab.training.fused.job import fit_pack, prepare
from reglab.training.fused.module import PackModule
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.resume import manifest_of
from reglab.training.recorder import Progress

_NO_STORE = {"name": "none"}
_MODEL = "model."


@dataclass(frozen=True, eq=False)
class Trained:
    """What an experiment has come to.

    Attributes:
        examples: What its weights reach on each example; None where these are too few to be kept.
        weights: Of its model, by name, with buffers: of the best epoch where a regularizer stops
            training, else of the last one. Averages of them are left out.
    """

    examples: Examples | None
    weights: Mapping[str, Tensor]


def train_together(
    experiments: Mapping[int, Experiment],
    folder: Path,
    on_progress: Callable[[int, Progress], None] | None = None,
) -> dict[int, Trained]:
    """Train experiments, in packs where they fit together, and return what each has come to.

    Args:
        experiments: By number.
        folder: For their runs; temporary.
        on_progress: Called after each measured epoch of an experiment, with its number.

    Returns:
        By number, without those that diverged.

    Raises:
        UserError: For what cannot be trained.
        KeyboardInterrupt: On Ctrl-C.
    """
    numbers = list(experiments)
    if len(numbers) == 1:
        return _alone(numbers[0], experiments[numbers[0]], folder, on_progress)
    try:
        return _pack(experiments, folder, on_progress)
    except Unfused as unfused:
        groups = unfused.groups or tuple((place,) for place in range(len(numbers)))
    found: dict[int, Trained] = {}
    for group in groups:
        found |= train_together({numbers[place]: experiments[numbers[place]] for place in group}, folder, on_progress)
    return found


def _alone(
    number: int, experiment: Experiment, folder: Path, on_progress: Callable[[int, Progress], None] | None
) -> dict[int, Trained]:
    run = folder / f"{number}-alone"
    settings = TrackingSettings.from_config(_NO_STORE)
    tracker = open_run(settings, name=str(number), folder=run, config={}, params={}, tags={}, dataset=experiment.data)
    try:
        fit(experiment, tracker, None if on_progress is None else lambda progress: on_progress(number, progress))
    except Diverged:
        tracker.finish("FAILED")
        return {}
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
    return {number: _read(run, experiment)}


def _pack(
    experiments: Mapping[int, Experiment], folder: Path, on_progress: Callable[[int, Progress], None] | None
) -> dict[int, Trained]:
    numbers = list(experiments)
    pack, _ = prepare(list(experiments.values()), PackSettings())
    specs = [_spec(number, experiments[number], folder / f"{number}-of-{len(numbers)}") for number in numbers]
    trackers = open_runs(TrackingSettings.from_config(_NO_STORE), specs)
    module, statuses = PackModule(pack), dict[int, str]()

    def report(place: int, progress: Progress) -> None:
        if on_progress is not None:
            on_progress(numbers[place], progress)

    best = Best(pack, pack.experiments[0].measure.monitor)
    finalizer = PackFinalizer(module, trackers, best, lambda place, result: statuses.update({place: result.status}))
    with finalizing(finalizer, specs[0].folder):
        finalizer.recorder = PackRecorder(module, best, trackers, report, finalizer.end)
        fit_pack(module, finalizer.recorder, manifest_of(specs, numbers))
        finalizer.end(dict.fromkeys(finalizer.unfinished()))
    if "KILLED" in statuses.values():
        raise KeyboardInterrupt
    finished = [place for place, status in statuses.items() if status == "FINISHED"]
    return {numbers[place]: _read(specs[place].folder, experiments[numbers[place]]) for place in finished}


def _spec(number: int, experiment: Experiment, folder: Path) -> RunSpec:
    tags = {FINGERPRINT: str(number)}
    epochs, every = experiment.recipe.epochs, experiment.measure.every
    return RunSpec(str(number), folder, {}, {}, tags, experiment.data, steps=epochs, every=every)


def _read(folder: Path, experiment: Experiment) -> Trained:
    kind = "best" if experiment.cocktail.stops else "last"
    state = checkpoint_files.read(folder / "checkpoints" / f"{kind}.ckpt")["state_dict"]
    weights = {name.removeprefix(_MODEL): value for name, value in state.items() if name.startswith(_MODEL)}
    return Trained(read(folder / FILE) if (folder / FILE).exists() else None, weights)

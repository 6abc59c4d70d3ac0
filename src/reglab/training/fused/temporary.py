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
    """What an experiment has come to, in its temporary folder.

    Args:
        folder: Of the run.
        stops: Whether a regularizer may stop training, so that the best epoch's weights stand for it.
    """

    folder: Path
    stops: bool

    def examples(self) -> Examples | None:
        """Return what its weights reach on each example; None where these are too few to be kept."""
        path = self.folder / FILE
        return read(path) if path.exists() else None

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of its model by name; averages are left out."""
        paths = [self.folder / "checkpoints" / f"{kind}.ckpt" for kind in ("best", "last")]
        path = paths[0] if self.stops and paths[0].exists() else paths[1]
        state = checkpoint_files.read(path)["state_dict"]
        return {name.removeprefix(_MODEL): value for name, value in state.items() if name.startswith(_MODEL)}


def examples_of(trained: Mapping[int, Trained]) -> dict[int, Examples]:
    """Return what trainings reach on each example, of those that have it."""
    found = {number: each.examples() for number, each in trained.items()}
    return {number: each for number, each in found.items() if each is not None}


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
    return {number: Trained(run, experiment.cocktail.stops)}


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
    return {
        numbers[place]: Trained(specs[place].folder, experiments[numbers[place]].cocktail.stops) for place in finished
    }


def _spec(number: int, experiment: Experiment, folder: Path) -> RunSpec:
    tags = {FINGERPRINT: str(number)}
    epochs, every = experiment.recipe.epochs, experiment.measure.every
    return RunSpec(str(number), folder, {}, {}, tags, experiment.data, steps=epochs, every=every)

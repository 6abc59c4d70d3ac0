"""A pack that was cut short goes on: the same runs from its checkpoint, those that have ended excepted."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, finish_runs, reopen_run, run_state
from reglab.tracking import pack_manifest as manifest
from reglab.tracking.folder import read_identity
from reglab.tracking.pack_manifest import CHECKPOINT, Manifest
from reglab.tracking.status import last_status
from reglab.training import checkpoint_files
from reglab.training.job_result import JobResult, deliver, result_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """A pack that was being trained. ended: the results of the jobs whose training is over, by their place in it.

    checkpoint: to go on from; None where it died before its first. lost: none of its checkpoints is whole, or the jobs
    compute something else by now.
    """

    manifest: Manifest
    ended: Mapping[int, JobResult]
    checkpoint: Path | None
    lost: bool

    def left(self) -> list[int]:
        """Return the places of the jobs that are to be trained."""
        return [place for place in range(len(self.manifest.jobs)) if place not in self.ended]

    def tell(self, on_end: Callable[[int, JobResult], None]) -> None:
        """Tell how each job ended whose training is over; its store may not have heard of that."""
        for place, result in self.ended.items():
            deliver(Path(self.manifest.folders[place]))
            on_end(place, result)

    def reopen(self, specs: Sequence[RunSpec]) -> list[RunTracker | None]:
        """Return the trackers of the runs, RUNNING again; None for those that have ended."""
        trackers: list[RunTracker | None] = []
        try:
            for place, spec in enumerate(specs):
                trackers.append(None if place in self.ended else _reopened(spec))
        except BaseException:
            opened = [tracker for tracker in trackers if tracker is not None]
            finish_runs(opened, ["KILLED"] * len(opened))
            raise
        return trackers

    def give_up(self, message: str) -> None:
        """Let the pack be none any more, and its open runs end KILLED: others take their places."""
        manifest.remove(Path(self.manifest.folders[0]))
        end_open([Path(self.manifest.folders[place]) for place in self.left()], message)


def earlier(specs: Sequence[RunSpec]) -> Earlier | None:
    """Return the pack of these very jobs, of the same sweep, that was cut short in their folders; None without one."""
    found = manifest.read(specs[0].folder)
    folders = tuple(str(spec.folder.resolve()) for spec in specs)
    if found is None or (found.parent, found.folders) != (specs[0].parent or "", folders):
        return None
    same = [spec.tags[run_state.FINGERPRINT] == known for spec, known in zip(specs, found.fingerprints, strict=True)]
    results = {
        place: result_of(folder, read_identity(folder).run_id)
        for place, folder in enumerate(map(Path, folders))
        if same[place]
    }
    ended = {place: result for place, result in results.items() if result is not None}
    path = Path(folders[0], CHECKPOINT)
    none_yet = not (path.exists() or checkpoint_files.previous(path).exists())
    checkpoint = _sound(path) if all(same) else None
    return Earlier(found, ended, checkpoint, lost=not all(same) or (checkpoint is None and not none_yet))


def manifest_of(specs: Sequence[RunSpec], jobs: Sequence[int]) -> Manifest:
    """Return the manifest of a pack whose runs were just opened. jobs: their numbers in the sweep."""
    return Manifest(
        parent=specs[0].parent or "",
        jobs=tuple(jobs),
        folders=tuple(str(spec.folder.resolve()) for spec in specs),
        runs=manifest.run_ids([spec.folder for spec in specs]),
        fingerprints=tuple(str(spec.tags[run_state.FINGERPRINT]) for spec in specs),
    )


def begin(trackers: Sequence[RunTracker], specs: Sequence[RunSpec], **tags: str) -> None:
    """Let the runs record in their journals what they need to go on, and these ``tags``."""
    for tracker, spec in zip(trackers, specs, strict=True):
        assert spec.dataset is not None
        assert spec.steps is not None
        tracker.tag(**run_state.initial_tags(spec.tags, spec.dataset.digest, spec.steps), **tags)


def end_open(folders: Sequence[Path], message: str) -> None:
    """End the runs in these folders that a dead process left open, before others take their places."""
    for folder in folders:
        try:
            if last_status(folder) == "RUNNING":  # by its journal, which leads the store
                run = reopen_run(folder)
                run.tag(**{"reglab.message": message})
                run.finish("KILLED")
        except UserError:  # no run, or none that can be read: nothing to end
            continue


def _reopened(spec: RunSpec) -> RunTracker:
    state = run_state.read_state(spec.folder) or run_state.RunState()
    tracker = reopen_run(spec.folder)
    assert spec.steps is not None
    tracker.tag(**run_state.resume_tags(state, spec.steps))
    return tracker


def _sound(path: Path) -> Path | None:
    """Return the newest whole checkpoint. A damaged one is removed: it must not take the place of the one before it."""
    found = checkpoint_files.sound(path)
    if found is not None and found != path:
        path.unlink(missing_ok=True)
    return found

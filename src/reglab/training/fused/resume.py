"""Resume an interrupted pack from its checkpoint, as the same runs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, finish_runs, reopen_run, run_state
from reglab.tracking import pack_manifest as manifest
from reglab.tracking.pack_manifest import CHECKPOINT, Manifest
from reglab.tracking.run_state import RunState, last_status
from reglab.training import checkpoint_files
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.job_result import JobResult, deliver, result_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InterruptedPack:
    """A pack that was being trained.

    Args:
        states: Of its jobs' runs; None where one has recorded nothing.
        ended: The results of the jobs whose training is over, by their index in it.
        checkpoint: To resume from; None where it died before its first.
        lost: None of its checkpoints is whole, or the jobs compute something else by now.
    """

    manifest: Manifest
    states: Sequence[RunState | None]
    ended: Mapping[int, JobResult]
    checkpoint: Checkpoint | None
    lost: bool

    def unfinished(self) -> list[int]:
        """Return the indices of the jobs that are still to be trained."""
        return [job_index for job_index in range(len(self.manifest.jobs)) if job_index not in self.ended]

    def report_ended(self, on_end: Callable[[int, JobResult], None]) -> None:
        """Report the results of jobs whose training is over, which may not be in the store yet."""
        for job_index, result in self.ended.items():
            deliver(Path(self.manifest.folders[job_index]))
            on_end(job_index, result)

    def reopen(self, specs: Sequence[RunSpec]) -> list[RunTracker | None]:
        """Return the trackers of the runs, RUNNING again; None for those that have ended."""
        trackers: list[RunTracker | None] = []
        try:
            for job_index, spec in enumerate(specs):
                trackers.append(None if job_index in self.ended else _reopened(spec, self.states[job_index]))
        except BaseException:
            opened = [tracker for tracker in trackers if tracker is not None]
            finish_runs(opened, ["KILLED"] * len(opened))
            raise
        return trackers

    def give_up(self, message: str) -> None:
        """Discard the pack and end its open runs KILLED: new runs replace them."""
        manifest.remove(Path(self.manifest.folders[0]))
        end_open([Path(self.manifest.folders[job_index]) for job_index in self.unfinished()], message)


def find_interrupted(specs: Sequence[RunSpec]) -> InterruptedPack | None:
    """Return the interrupted pack of the same jobs and sweep in their folders, or None."""
    saved = manifest.read(specs[0].folder)
    folders = tuple(str(spec.folder.resolve()) for spec in specs)
    if saved is None or (saved.parent, saved.folders) != (specs[0].parent or "", folders):
        return None
    same = [
        spec.tags[run_state.FINGERPRINT] == fingerprint
        for spec, fingerprint in zip(specs, saved.fingerprints, strict=True)
    ]
    states = [run_state.read_state(Path(folder)) for folder in folders]
    ended = {
        job_index: result_of(state)
        for job_index, state in enumerate(states)
        if state and state.conclusive and same[job_index]
    }
    path = Path(folders[0], CHECKPOINT)
    none_yet = not (path.exists() or checkpoint_files.previous(path).exists())
    wanted = all(same) and len(ended) < len(specs)
    checkpoint = next(checkpoint_files.whole(path), None) if wanted else None
    return InterruptedPack(
        saved, states, ended, checkpoint, lost=not all(same) or (checkpoint is None and not none_yet)
    )


def manifest_of(specs: Sequence[RunSpec], jobs: Sequence[int]) -> Manifest:
    """Return the manifest of a pack whose runs were just opened.

    Args:
        jobs: Their numbers in the sweep.
    """
    return Manifest(
        parent=specs[0].parent or "",
        jobs=tuple(jobs),
        folders=tuple(str(spec.folder.resolve()) for spec in specs),
        runs=manifest.run_ids([spec.folder for spec in specs]),
        fingerprints=tuple(str(spec.tags[run_state.FINGERPRINT]) for spec in specs),
    )


def record_start(trackers: Sequence[RunTracker], specs: Sequence[RunSpec], **tags: str) -> None:
    """Record in the runs' journals what resuming needs, and these ``tags``.

    Args:
        trackers: Of the runs.
        specs: Of the runs, in the same order.
    """
    for tracker, spec in zip(trackers, specs, strict=True):
        assert spec.dataset is not None
        assert spec.steps is not None
        tracker.tag(**run_state.initial_tags(spec.tags, spec.dataset.digest, spec.steps), **tags)


def end_open(folders: Sequence[Path], message: str) -> None:
    """End the runs in these folders that a dead process left open, before new runs replace them.

    Args:
        folders: Of the runs.
        message: Why they end.
    """
    for folder in folders:
        try:
            if last_status(folder) == "RUNNING":  # by its journal, which leads the store
                run = reopen_run(folder)
                run.tag(**{"reglab.message": message})
                run.finish("KILLED")
        except UserError:  # no run, or none that can be read: nothing to end
            continue


def _reopened(spec: RunSpec, state: RunState | None) -> RunTracker:
    tracker = reopen_run(spec.folder)
    assert spec.steps is not None
    tracker.tag(**run_state.resume_tags(state or RunState(spec.folder), spec.steps))
    return tracker

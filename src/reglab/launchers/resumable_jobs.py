"""Find unfinished packs and jobs with checkpoints in a sweep's folder, to resume them."""

import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reglab.core.errors import UserError
from reglab.launchers.compose import JOB, Composer, JobGroup, job_config, job_folder
from reglab.launchers.events import Ended, Status
from reglab.tracking import is_running, send
from reglab.tracking.folder import read_identity
from reglab.tracking.lock import LOCK
from reglab.tracking.pack_manifest import MANIFEST, Manifest, read
from reglab.tracking.run_state import read_state

_POLL_SECONDS = 0.1
_LAST = ("last.ckpt", "last.previous.ckpt")


def unfinished_packs(folder: Path, jobs: Collection[int]) -> list[Manifest]:
    """Return the manifests of packs in a sweep's folder that were not finished.

    Args:
        folder: Of the sweep.
        jobs: Numbers in the sweep; packs with other jobs are left out.
    """
    manifests: list[Manifest] = []
    covered: set[int] = set()
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        manifest = read(path.parent)
        if manifest is not None and set(manifest.jobs) <= set(jobs) - covered:
            covered |= set(manifest.jobs)
            manifests.append(manifest)
    return manifests


def pack_groups(folder: Path, jobs: Mapping[int, Sequence[str]]) -> list[JobGroup]:
    """Return the groups of unfinished packs, their jobs in the pack's order.

    Args:
        folder: Of the sweep.
        jobs: Overrides by launch number.
    """
    launched = {number: job for job, overrides in jobs.items() if (number := sweep_number(overrides)) is not None}
    return [
        JobGroup(numbers, tuple(tuple(jobs[job]) for job in numbers))
        for manifest in unfinished_packs(folder, launched)
        for numbers in [tuple(launched[number] for number in manifest.jobs)]
    ]


def solo_groups(folder: Path, jobs: Mapping[int, Sequence[str]], composer: Composer) -> list[JobGroup]:
    """Return a group for each job that trained alone and can resume.

    Args:
        folder: Of the sweep.
        jobs: Overrides by launch number.
        composer: Of the sweep.
    """
    if next(folder.glob("*/checkpoints"), None) is None:  # a new sweep: nothing to look for
        return []
    folders = {job: job_folder(job_config(composer, job, overrides, lean=True)) for job, overrides in jobs.items()}
    return [JobGroup((job,), (tuple(jobs[job]),)) for job, job_path in folders.items() if _can_resume(job_path)]


def wait_for_workers(folder: Path, seconds: float = 60.0) -> None:
    """Wait until no process writes in a sweep's folder: workers outlive a killed sweep by a step.

    Args:
        folder: Of the sweep.
        seconds: At most.

    Raises:
        UserError: Some do not end.
    """
    folders = [path.parent for path in folder.glob(f"*/{LOCK}")]
    if not any(map(is_running, folders)):
        return
    print("waiting for the workers of the earlier launch, which are saving their jobs", file=sys.stderr)
    deadline = time.monotonic() + seconds
    while running := [path for path in folders if is_running(path)]:
        if time.monotonic() > deadline:
            raise UserError(f"{running[0]} is still being written by another process; stop it, or wait until it ends")
        time.sleep(_POLL_SECONDS)


def recorded_end(job: int, folder: Path) -> Ended | None:
    """Return how a job's run finished or diverged, by its journal; None if it did neither.

    What was not yet sent to MLflow is sent.

    Args:
        job: Its number.
        folder: Of its run.
    """
    state = read_state(folder)
    if state is None or not state.conclusive:
        return None
    with suppress(UserError):  # a run without MLflow
        send(folder)
    status: Status = "FAILED" if state.diverged else "FINISHED"
    return Ended(job, status, state.message, read_identity(folder).run_id, state.results)


def sweep_number(overrides: Iterable[str]) -> int | None:
    """Return the job's number in its sweep from its overrides; None if they have none."""
    return next((int(each.removeprefix(JOB)) for each in overrides if each.startswith(JOB)), None)


def _can_resume(folder: Path) -> bool:
    if not any((folder / "checkpoints" / name).exists() for name in _LAST):
        return False
    state = read_state(folder)
    return state is not None and not state.conclusive

"""Find unfinished packs and jobs with checkpoints in a sweep's folder, to resume them."""

import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from reglab.config.job_request import JobRequest
from reglab.core.errors import UserError
from reglab.launchers.compose import JobGroup
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


def pack_groups(folder: Path, requests: Sequence[JobRequest]) -> list[JobGroup]:
    """Return the groups of unfinished packs, their jobs in the pack's order.

    Args:
        folder: Of the sweep.
        requests: Of the jobs to run.
    """
    request_of = {request.number: request for request in requests}
    manifests = unfinished_packs(folder, request_of)
    return [JobGroup(tuple(request_of[number] for number in manifest.jobs)) for manifest in manifests]


def solo_groups(requests: Sequence[JobRequest]) -> list[JobGroup]:
    """Return a group for each job that trained alone and can resume."""
    return [JobGroup((request,)) for request in requests if _can_resume(request.folder)]


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


def recorded_end(request: JobRequest) -> Ended | None:
    """Return how a job's run finished or diverged, by its journal; None if it did neither.

    What was not yet sent to MLflow is sent.
    """
    state = read_state(request.folder)
    if state is None or not state.conclusive:
        return None
    with suppress(UserError):  # a run without MLflow
        send(request.folder)
    status: Status = "FAILED" if state.diverged else "FINISHED"
    return Ended(request.number, status, state.message, read_identity(request.folder).run_id, state.results)


def _can_resume(folder: Path) -> bool:
    if not any((folder / "checkpoints" / name).exists() for name in _LAST):
        return False
    state = read_state(folder)
    return state is not None and not state.conclusive

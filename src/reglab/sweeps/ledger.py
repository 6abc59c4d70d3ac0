"""Which jobs of a sweep are finished, by MLflow, so that a relaunch runs only the rest."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.analysis.formatting import plural
from reglab.config.fingerprint import computed_part, hash_config
from reglab.config.lightning_loop import data_digest, is_data_module, uses_lightning_loop
from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.launchers.compose import Composer
from reglab.launchers.events import Ended
from reglab.sweeps.blocks import Job
from reglab.sweeps.path import Link
from reglab.tracking import TrackingSettings, is_running
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import EARLIER, IDENTITY, read_identity, shell_path
from reglab.tracking.run_record import JOB, SUPERSEDED, conclusive, select_attempts
from reglab.tracking.settings import redacted

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_DIGEST = "reglab.data_digest"

Content = dict[str, Any]  # a job's resolved config without paths and tracking


def contents(jobs: Sequence[Job], composer: Composer, links_by_job: Mapping[int, Link]) -> dict[int, Content]:
    """Return what each job computes, by its number: its config without paths and tracking.

    Args:
        jobs: Of the sweep.
        composer: Of the sweep.
        links_by_job: Of the jobs of a path.
    """
    trails = {number: link.trail for number, link in links_by_job.items()}
    return {job.number: computed_part(composer.resolved(job.overrides), trails.get(job.number)) for job in jobs}


def sweep_fingerprint(jobs: Sequence[Job], by_job: Mapping[int, Content]) -> str:
    """Return the hash of a sweep's jobs in their order, each with the label of its block."""
    return hash_config([[job.block, by_job[job.number]] for job in jobs])


def earlier_folder(settings: TrackingSettings, fingerprint: str, quiet: bool = False) -> Path | None:
    """Return the folder of the newest sweep with this fingerprint; None if none can resume here.

    Args:
        settings: Of tracking.
        fingerprint: Of the sweep.
        quiet: Print no line where there is one, but its folder is not on this machine.
    """
    from reglab.tracking.mlflow.ledger import newest_sweep  # late: mlflow

    sweep = newest_sweep(settings, fingerprint)
    if sweep is None:
        return None
    try:
        identity = read_identity(Path(sweep.folder))
    except (UserError, OSError):
        identity = None
    if identity is None or (identity.run_id, identity.uri) != (sweep.run_id, redacted(settings.uri)):
        if not quiet:
            _print(
                f"the sweep {sweep.name} ({sweep.run_id}) cannot be resumed: its folder {inline(sweep.folder)} is not "
                "on this machine. A new sweep starts"
            )
        return None
    return Path(sweep.folder)


def is_sweep(settings: TrackingSettings, fingerprint: str, folder: Path) -> bool:
    """Return whether the sweep in ``folder``, newest of its kind or not, has this fingerprint in the store.

    Args:
        settings: Of tracking.
        fingerprint: Of the sweep.
        folder: Of the sweep that is to be resumed.
    """
    from reglab.tracking.mlflow.ledger import FINGERPRINT
    from reglab.tracking.mlflow.read import get_run

    identity = read_identity(folder)
    if identity.uri != redacted(settings.uri):
        return False
    return get_run(settings.uri, identity.run_id).tags.get(FINGERPRINT) == fingerprint


def finished_jobs(uri: str, folder: Path, by_job: Mapping[int, Content]) -> dict[int, Ended]:
    """Return how the jobs ended that need not run again: finished, or diverged.

    Runs that MLflow still has as running are ended KILLED first, so no process may be running the
    sweep. A result on data that have changed since is marked as superseded, and its job left out.

    Args:
        uri: Of the MLflow store.
        folder: Of the sweep.
        by_job: As ``contents`` returns it.
    """
    runs = concluded_runs(uri, folder)
    stale = _stale(runs, by_job)
    if stale:
        _supersede([runs.pop(number) for number in stale])
    return {number: _recorded_end(number, run) for number, run in runs.items()}


def concluded_runs(uri: str, folder: Path) -> dict[int, "RunRecord"]:
    """Return the runs of a sweep that need not run again, by job: finished, or diverged.

    Args:
        uri: Of the MLflow store.
        folder: Of the sweep.
    """
    from reglab.tracking.mlflow.read import sweep_runs

    send_unsent(folder, uri)  # a dead process may have recorded more than it sent
    parent_id = read_identity(folder).run_id
    children = sweep_runs(uri, parent_id)
    if _end_dead_runs(uri, children, folder):
        children = sweep_runs(uri, parent_id)
    return {int(run.tags[JOB]): run for run in select_attempts(children) if run.tags.get(JOB) and conclusive(run)}


def send_unsent(folder: Path, uri: str) -> bool:
    """Send to MLflow what the runs of a sweep have not sent, for example while it was offline.

    Args:
        folder: Of the sweep, whose own run may be open.
        uri: Of the store that the sweep's configuration names.

    Returns:
        Whether MLflow has all runs; if not, the reasons are printed.
    """
    result = sync([folder], uri, say=lambda text: None)
    # Runs that were replaced by others need not be sent, and one whose identity is damaged cannot be:
    # if MLflow has it, it counts, and if not, its job runs again.
    left = {path: reason for path, reason in result.refused.items() if not path.name.startswith(EARLIER)}
    refused = [reason for path, reason in left.items() if _holds_run(path) and path not in result.lost]
    for reason in [left[path] for path in left if left[path] not in refused]:
        _print(f"left as it is: {reason}")
    for reason in dict.fromkeys(refused):
        _print(f"not in MLflow yet: {reason}")
    if busy := result.running - is_running(folder):
        _print(f"not in MLflow yet: {plural(busy, 'run')} that another process is writing")
    if result.left:
        _print(
            f"not in MLflow: {plural(result.left, 'artifact')} (why, and another try: reglab sync {shell_path(folder)})"
        )
    return not refused and not busy


def _holds_run(folder: Path) -> bool:
    with suppress(UserError):
        read_identity(folder)
        return True
    return False


def progress(folder: Path, jobs: int, done: Mapping[int, Ended]) -> str:
    """Return a line with the finished and the remaining jobs of a resumed sweep."""
    finished = sum(end.status == "FINISHED" for end in done.values())
    verb = "is" if finished == 1 else "are"
    text = f"resuming the sweep in {folder}: {finished} of {plural(jobs, 'job')} {verb} finished, "
    if len(done) > finished:
        text += f"{len(done) - finished} diverged and would diverge again, "
    return f"{text}{jobs - len(done)} to run"


def _end_dead_runs(uri: str, children: Sequence["RunRecord"], folder: Path) -> bool:
    """End the runs that a dead process left open, and tell whether there are any."""
    running = [run.run_id for run in children if run.status == "RUNNING"]
    folders = dict(_run_folders(folder)) if running else {}
    for run_id in running:
        _end_dead_run(uri, run_id, folders.get(run_id))
    return bool(running)


def _run_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob(IDENTITY):
        with suppress(UserError, OSError):  # its process may have died while writing it
            yield read_identity(path.parent).run_id, path.parent


def _end_dead_run(uri: str, run_id: str, folder: Path | None) -> None:
    """End a run, unless a process still writes it: it may outlive its sweep."""
    if folder is None or not is_running(folder):
        from reglab.tracking.mlflow.ledger import finish_killed

        finish_killed(uri, run_id)


def _stale(runs: Mapping[int, "RunRecord"], by_job: Mapping[int, Content]) -> list[int]:
    """Return the jobs whose data have changed since they ran; each data set is loaded once."""
    if not runs:
        return []
    from reglab import data  # late: torch

    digests: dict[str, str] = {}

    def loads_to(node: Content, digest: str | None, own: bool) -> bool:
        key = f"{own} {hash_config(node)}"
        if key not in digests:
            digests[key] = data_digest(node) if own else data.load(node).digest
        return digests[key] == digest

    def unchanged(job: Content, digest: str | None) -> bool:
        node, own = job["data"], is_data_module(job) and uses_lightning_loop(job)
        if loads_to(node, digest, own):
            return True
        # Under data.shape=auto a custom model may have read images, which no config records.
        return node.get("shape") == "flat" and loads_to({**node, "shape": "image"}, digest, own)

    return [number for number, run in runs.items() if not unchanged(by_job[number], run.tags.get(_DIGEST))]


def _supersede(runs: Sequence["RunRecord"]) -> None:
    from reglab.tracking.mlflow.amend import amend

    for run in runs:
        amend(run, {}, 0, {SUPERSEDED: "the data changed"})
    many = len(runs) > 1
    _print(
        f"the data of {plural(len(runs), 'job')} changed since {'they' if many else 'it'} ran: "
        f"{'their results no longer count' if many else 'its result no longer counts'}"
    )


def _recorded_end(number: int, run: "RunRecord") -> Ended:
    return Ended(
        number, "FINISHED" if run.status == "FINISHED" else "FAILED", run.tags.get("reglab.message", ""), run.run_id
    )


def _print(text: str) -> None:
    print(text, file=sys.stderr)

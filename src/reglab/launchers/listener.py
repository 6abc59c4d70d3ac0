"""``RunsListener``: the sweep's side of a worker pool: shows events, reads and ends the jobs' runs."""

from collections.abc import Sequence
from pathlib import Path

from reglab.config.job_request import JobRequest
from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers.compose import JobGroup
from reglab.launchers.display import Display
from reglab.launchers.events import Ended, Event


class RunsListener:
    """A ``PoolListener`` that shows the jobs in a table and knows the folders of their runs."""

    def __init__(self, display: Display):
        self._display = display

    def on_event(self, event: Event) -> None:
        """Show it."""
        self._display.on_event(event)

    def on_tick(self) -> None:
        """Refresh the table."""
        self._display.on_tick()

    def on_split(self, group: JobGroup, jobs: Sequence[int], reason: str) -> None:
        """End the runs that a dead worker left open, before the same jobs start new ones."""
        from reglab.tracking import pack_manifest

        pack_manifest.remove(group.requests[0].folder)
        for request in group.subset(jobs).requests:
            record_end(Ended(request.number, "FAILED", f"{reason}; trained again"), request.folder)

    def checkpoint_progress(self, group: JobGroup) -> int:
        """Return the steps of a pack's checkpoint, the time of a job's; 0 without one."""
        from reglab.tracking import pack_manifest

        folder = group.requests[0].folder
        if len(group.requests) > 1:
            manifest = pack_manifest.read(folder)
            return manifest.steps if manifest else 0
        last = folder / "checkpoints" / "last.ckpt"
        return last.stat().st_mtime_ns if last.exists() else 0

    def recorded_end(self, request: JobRequest) -> Ended | None:
        """Return how a job ended by its journal, which may be ahead of MLflow; None if open."""
        return resumable_jobs.recorded_end(request)


def record_end(end: Ended, folder: Path) -> None:
    """Record the end of a run whose worker could not: it died, or was interrupted meanwhile.

    Args:
        end: Of the job.
        folder: Of its run.
    """
    from reglab.tracking import reopen_run
    from reglab.tracking.run_state import last_status

    try:
        status = last_status(folder)  # the journal is ahead of MLflow
        timed_out = (status, end.status) == ("KILLED", "FAILED")  # terminated after its time limit
        if status != "RUNNING" and not timed_out:
            return
        run = reopen_run(folder)
    except UserError:
        return  # its process died before it opened a run
    run.tag(**{"reglab.message": end.message})
    run.finish(end.status)

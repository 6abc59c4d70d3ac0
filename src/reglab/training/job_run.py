"""The run of a job: opened or resumed, and ended as the job ends, whatever trains it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core.rank_zero import rank_zero_only

from reglab.core import signals
from reglab.core.describe_error import describe_error
from reglab.core.errors import RECORDED, Diverged, UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, open_runs, reopen_run, run_state
from reglab.tracking.folder import JOURNAL
from reglab.tracking.opening import budget
from reglab.tracking.params import write_config
from reglab.tracking.run_state import RunState
from reglab.tracking.sender import is_cut
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import resumable
from reglab.training.job_result import JobResult, record_failure
from reglab.training.prepare import written


class Openable(Protocol):
    """A prepared job, as its run asks for it.

    Attributes:
        job: Its resolved config.
        tracking: Where its run is recorded.
        digest: Of its data.
        epochs: Its budget.
    """

    @property
    def job(self) -> Mapping[str, Any]: ...
    @property
    def tracking(self) -> TrackingSettings: ...
    @property
    def digest(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    def run_spec(self, folder: Path) -> RunSpec:
        """Return what its run is opened with."""


def run_recorded(
    prepared: Openable, train: Callable[[RunTracker, Checkpoint | None], JobResult], resume: RunState | None = None
) -> JobResult:
    """Open the run of a job, train it, and end the run as the job ended.

    An unfinished run of the same job in the job's folder is resumed: as the same MLflow run, from
    its last checkpoint.

    A loss that diverges ends the run FAILED, Ctrl-C or SIGTERM ends it KILLED; neither raises. Any
    other error ends it FAILED and is raised.

    Args:
        prepared: The job.
        train: Trains it from a checkpoint, if there is one, and records its result.
        resume: The state of a run to resume in any case, even if finished.
    """
    tracker, checkpoint = _open(prepared, _spec(prepared, resume), resume)
    try:
        result = train(tracker, checkpoint)
    except Diverged as error:
        result = record_failure(tracker, "FAILED", str(error), failure="diverged")
    except BaseException as error:
        if not signals.was_signalled(error):
            record_failure(tracker, "FAILED", describe_error(error))
            tracker.finish("FAILED")
            error.add_note(f"{RECORDED} {tracker.folder}.")
            raise
        result = record_failure(tracker, "KILLED", "interrupted")
    tracker.finish(result.status)
    return result


def _spec(prepared: Openable, resume: RunState | None) -> RunSpec:
    if resume or not HydraConfig.initialized():
        new = Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
        return prepared.run_spec(resume.folder if resume else new)
    hydra = HydraConfig.get()
    spec = prepared.run_spec(Path(hydra.runtime.output_dir))
    return replace(spec, tags={**spec.tags, "reglab.overrides": written(hydra.overrides.task)})


def _open(prepared: Openable, spec: RunSpec, resume: RunState | None) -> tuple[RunTracker, Checkpoint | None]:
    """Return the tracker of the job's run, new or resumed, and the checkpoint to resume from, if
    any.
    """
    found = resume or run_state.read_state(spec.folder)
    resumed = found is not None and found.is_resumed_by(spec.tags) and not is_cut(spec.folder)
    earlier = found if resume or resumed else None
    if resume and (is_cut(resume.folder) or run_state.DIGEST not in resume.tags):
        raise UserError(
            f"{resume.folder / JOURNAL} is damaged: it has lost rows, which would be recorded a second time. Put it "
            "back from a copy, or train a new run"
        )
    if resume and resume.tags[run_state.DIGEST] != prepared.digest:
        raise UserError(
            f"the run in {resume.folder} was trained on other data, so it cannot be resumed; restore them, or train a "
            "new run"
        )
    checkpoint = resumable(spec.folder / "checkpoints") if earlier else None
    rank: int = getattr(rank_zero_only, "rank", 0)
    if rank:  # one run for all ranks; the others keep a journal of their own
        local = TrackingSettings.from_config({**prepared.job["tracking"], "name": "none"})
        return open_runs(local, [replace(spec, folder=spec.folder / f"rank{rank}")])[0], checkpoint
    if earlier:
        rule = None
        if earlier.tags.get(run_state.EPOCHS) != str(prepared.epochs):  # longer than its budget was made for
            rule = budget(prepared.tracking, spec)
        tracker = reopen_run(spec.folder, rule)
        tracker.tag(**run_state.resume_tags(earlier, prepared.epochs))
        if resume:
            write_config(spec.folder / "config.yaml", spec.config, {})
            tracker.artifact(spec.folder / "config.yaml")
    else:
        (tracker,) = open_runs(prepared.tracking, [spec])
    tracker.tag(**run_state.initial_tags(spec.tags, prepared.digest, prepared.epochs))
    return tracker, checkpoint

"""Train one job of ``reglab train``, from a composed config to a finished MLflow run."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from reglab.analysis.table_report import MARKDOWN
from reglab.config.job_request import JobRequest
from reglab.core import signals
from reglab.core.describe_error import describe_error
from reglab.core.errors import RECORDED, Diverged, UserError
from reglab.core.secrets import hide
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, open_runs, reopen_run, run_state
from reglab.tracking.folder import JOURNAL
from reglab.tracking.opening import budget
from reglab.tracking.params import write_config
from reglab.tracking.run_state import RunState
from reglab.tracking.sender import is_cut
from reglab.training.check import check_experiment
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import resumable
from reglab.training.fit import fit, test_metrics
from reglab.training.job_result import JobResult, record_failure, record_result
from reglab.training.preflight import log_advice, table_report
from reglab.training.prepare import Prepared, prepare_job, written
from reglab.training.process_state import process_restored
from reglab.training.recorder import Progress

_log = logging.getLogger(__name__)


@process_restored()
def run_job(
    config: DictConfig,
    on_progress: Callable[[Progress], None] | None = None,
    resume: RunState | None = None,
    request: JobRequest | None = None,
) -> JobResult:
    """Train the job that ``config`` describes and record it.

    An unfinished run of the same job in the job's folder is resumed: as the same MLflow run, from
    its last checkpoint.

    A loss that diverges ends the run FAILED, Ctrl-C or SIGTERM ends it KILLED; neither raises. Any
    other error ends it FAILED and is raised.

    Args:
        resume: The state of a run to resume in any case, even if finished.
        request: Of the sweep that the job belongs to.

    Raises:
        UserError: For bad input, before a run is opened.
    """
    prepared = prepare_job(config, request)
    experiment = prepared.experiment
    check_experiment(experiment)
    if request is None or not request.parent:
        log_advice(experiment)
    spec = _spec(prepared, resume)
    tracker, checkpoint = _open(prepared, spec, resume)
    try:
        if (request is None or not request.parent) and not getattr(rank_zero_only, "rank", 0):
            _report_table(prepared, spec.folder, tracker)
        final = fit(experiment, tracker, on_progress, checkpoint)
        if experiment.measure.test:
            final |= test_metrics(experiment.model, experiment.cocktail, experiment.data, experiment.measure)
        result = record_result(tracker, experiment, final)
    except Diverged as error:
        result = record_failure(tracker, "FAILED", str(error), failure="diverged")
    except BaseException as error:
        if not signals.was_signalled(error):
            record_failure(tracker, "FAILED", describe_error(error))
            tracker.finish("FAILED")
            error.add_note(f"{RECORDED} {spec.folder}.")
            raise
        result = record_failure(tracker, "KILLED", "interrupted")
    tracker.finish(result.status)
    return result


def _report_table(prepared: Prepared, folder: Path, tracker: RunTracker) -> None:
    """Show the report of the job's table, and keep it with the run."""
    report = table_report(prepared.job["data"])
    if report is not None:
        _log.warning("%s", report.text())
        path = folder / MARKDOWN
        path.write_text(hide(report.markdown()), encoding="utf-8")
        tracker.artifact(path)


def _spec(prepared: Prepared, resume: RunState | None) -> RunSpec:
    if resume or not HydraConfig.initialized():
        new = Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
        return prepared.run_spec(resume.folder if resume else new)
    hydra = HydraConfig.get()
    spec = prepared.run_spec(Path(hydra.runtime.output_dir))
    return replace(spec, tags={**spec.tags, "reglab.overrides": written(hydra.overrides.task)})


def _open(prepared: Prepared, spec: RunSpec, resume: RunState | None) -> tuple[RunTracker, Checkpoint | None]:
    """Return the tracker of the job's run, new or resumed, and the checkpoint to resume from, if
    any.
    """
    experiment = prepared.experiment
    found = resume or run_state.read_state(spec.folder)
    resumed = found is not None and found.is_resumed_by(spec.tags) and not is_cut(spec.folder)
    earlier = found if resume or resumed else None
    if resume and (is_cut(resume.folder) or run_state.DIGEST not in resume.tags):
        raise UserError(
            f"{resume.folder / JOURNAL} is damaged: it has lost rows, which would be recorded a second time. Put it "
            "back from a copy, or train a new run"
        )
    if resume and resume.tags[run_state.DIGEST] != experiment.data.digest:
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
        if earlier.tags.get(run_state.EPOCHS) != str(experiment.recipe.epochs):  # longer than its budget was made for
            rule = budget(prepared.tracking, spec)
        tracker = reopen_run(spec.folder, rule)
        tracker.tag(**run_state.resume_tags(earlier, experiment.recipe.epochs))
        if resume:
            write_config(spec.folder / "config.yaml", spec.config, {})
            tracker.artifact(spec.folder / "config.yaml")
    else:
        (tracker,) = open_runs(prepared.tracking, [spec])
    tracker.tag(**run_state.initial_tags(spec.tags, experiment.data.digest, experiment.recipe.epochs))
    return tracker, checkpoint

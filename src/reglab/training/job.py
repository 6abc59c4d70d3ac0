"""Train one job of ``reglab train``, from a composed config to a finished MLflow run."""

import logging
from collections.abc import Callable
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from reglab.analysis.table_report import MARKDOWN
from reglab.config.job_request import JobRequest
from reglab.core.secrets import hide
from reglab.tracking import RunTracker
from reglab.tracking.run_state import RunState
from reglab.training.check import check_experiment
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.fit import fit, test_metrics
from reglab.training.job_result import JobResult, record_result
from reglab.training.job_run import run_recorded
from reglab.training.preflight import log_advice, table_report
from reglab.training.prepare import Prepared, prepare_job
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

    How its run is opened or resumed, and ends: see ``run_recorded``.

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

    def train(tracker: RunTracker, checkpoint: Checkpoint | None) -> JobResult:
        if (request is None or not request.parent) and not getattr(rank_zero_only, "rank", 0):
            _report_table(prepared, tracker.folder, tracker)
        final = fit(experiment, tracker, on_progress, checkpoint)
        if experiment.measure.test:
            final |= test_metrics(experiment.model, experiment.cocktail, experiment.data, experiment.measure)
        return record_result(tracker, experiment, final)

    return run_recorded(prepared, train, resume)


def _report_table(prepared: Prepared, folder: Path, tracker: RunTracker) -> None:
    """Show the report of the job's table, and keep it with the run."""
    report = table_report(prepared.job["data"])
    if report is not None:
        _log.warning("%s", report.text())
        path = folder / MARKDOWN
        path.write_text(hide(report.markdown()), encoding="utf-8")
        tracker.artifact(path)

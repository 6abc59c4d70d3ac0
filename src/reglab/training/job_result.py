"""Job results: record the outcome of a job, solo or fused, in its run."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reglab.core.atomic_write import write
from reglab.core.errors import UserError
from reglab.core.markdown import plain
from reglab.data import DataSet
from reglab.data.preprocessing import FILE
from reglab.tracking import RunTracker, send
from reglab.tracking.folder import read_identity
from reglab.tracking.run_state import RunState
from reglab.training.experiment import Experiment
from reglab.training.fit import summary
from reglab.training.run_note import run_note

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Args:
        metrics: ``final/...`` without its prefix, empty unless it finished.
    """

    run_id: str
    status: Status
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def record_result(tracker: RunTracker, experiment: Experiment, final: Mapping[str, float]) -> JobResult:
    """Record what a finished job reached, and return it.

    Args:
        final: Metrics of the weights that the run stands for.

    Raises:
        OSError: Where the run's folder is not in its place any more.
    """
    result = summary(final)
    record_preprocessing(tracker, experiment.data)
    return record_summary(tracker, result, final, run_note(experiment.data, experiment.cocktail, result))


def record_preprocessing(tracker: RunTracker, data: DataSet) -> None:
    """Record how raw rows become inputs, where that is known: for rows to come.

    Args:
        tracker: Of the run.
        data: Of the run.
    """
    if data.preprocessing is not None:
        path = tracker.folder / FILE
        write(path, data.preprocessing.text())
        tracker.artifact(path)


def record_summary(
    tracker: RunTracker, result: Mapping[str, float], final: Mapping[str, float], note: str
) -> JobResult:
    """Record what stands for a finished job, and return its result.

    Args:
        tracker: Of its run.
        result: Metrics, recorded as ``final/...``.
        final: All that it reached, tests among them.
        note: Markdown, on the run's page.

    Raises:
        OSError: Where the run's folder is not in its place any more.
    """
    tracker.journal.check_in_place()
    tested = {key: value for key, value in final.items() if key.startswith("test/")}
    tracker.summary(result)
    tracker.log(tested, int(final["epoch"]))
    tracker.note(note)
    return JobResult(tracker.run_id, "FINISHED", "", {**result, **tested})


def record_failure(tracker: RunTracker, status: Status, message: str, **tags: str) -> JobResult:
    """Record why a job did not finish, and return it.

    Args:
        tags: Dotted after ``reglab``, as ``failure="diverged"``.
    """
    tracker.tag(**{f"reglab.{key}": value for key, value in tags.items()})
    tracker.tag(**{"reglab.message": message})
    tracker.note(f"**{status}**: {plain(message)}")
    return JobResult(tracker.run_id, status, message)


def result_of(state: RunState) -> JobResult:
    """Return the result of a job whose run finished or diverged."""
    status: Status = "FAILED" if state.diverged else "FINISHED"
    return JobResult(read_identity(state.folder).run_id, status, state.message, state.results)


def deliver(folder: Path) -> None:
    """Send an ended run's pending records to the store, if its process died before it could."""
    with suppress(UserError):  # a run that is kept in its folder alone
        send(folder)

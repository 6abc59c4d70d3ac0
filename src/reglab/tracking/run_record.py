"""Record of a run read from a store, and which of a job's attempts counts."""

from collections.abc import Iterable
from dataclasses import dataclass

JOB = "reglab.job"
SUPERSEDED = "reglab.superseded"  # why a result counts no more, though its run finished


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow holds it.

    Args:
        metrics: The latest value of each.
        uri: The store that it came from.
    """

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    artifact_uri: str
    uri: str


def conclusive(record: RunRecord) -> bool:
    """Return whether running a job again could only repeat this run's result.

    It finished, or its loss diverged.
    """
    return record.status == "FINISHED" or record.tags.get("reglab.failure") == "diverged"


def select_attempts(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the attempt that counts of each job, by job.

    The newest conclusive one, else the newest.

    Args:
        records: The runs of one sweep, oldest first. Superseded ones are left out; those without a
            job number all count.
    """
    valid = [record for record in records if SUPERSEDED not in record.tags]
    chosen: dict[str, RunRecord] = {}
    for record in valid:
        job = record.tags.get(JOB) or record.run_id
        if job not in chosen or conclusive(record) or not conclusive(chosen[job]):
            chosen[job] = record
    # By job, not by start: which of two workers was first changes from time to time.
    return sorted(chosen.values(), key=lambda record: int(record.tags.get(JOB) or 0))

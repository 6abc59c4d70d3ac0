"""Add metrics and tags to finished runs."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Metric, RunTag

from reglab.core.errors import UserError
from reglab.tracking.curve_files import write_curve_files
from reglab.tracking.folder import FOLDER, JOURNAL, read_identity
from reglab.tracking.journal import Journal
from reglab.tracking.lock import RunLock
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.run_record import RunRecord
from reglab.tracking.run_state import last_status
from reglab.tracking.sender import JournalCursor, Sender
from reglab.tracking.settings import redacted
from reglab.tracking.store_keys import store_key


def amend(record: RunRecord, metrics: Mapping[str, float], step: int, tags: Mapping[str, str]) -> None:
    """Add metrics, at ``step``, and tags to a run; its status stays as it is.

    They go through its journal, where its folder is at hand, so that a store can be made again.

    Args:
        record: The run.
        metrics: Values by key.
        step: Their step.
        tags: Values by key.

    Raises:
        UserError: Where the store does not accept them.
    """
    if _through_journal(record, metrics, step, tags):
        return
    now = int(time.time() * 1000)
    try:
        connect(record.uri, create=False).log_batch(
            record.run_id,
            metrics=[Metric(store_key(key), value, now, step) for key, value in metrics.items()],
            tags=[RunTag(store_key(key), value) for key, value in tags.items()],
        )
    except UNREACHABLE as error:
        raise UserError(
            f"{redacted(record.uri)} could not store results of the run {record.run_id}: {reason(error)}"
        ) from error


def _through_journal(record: RunRecord, metrics: Mapping[str, float], step: int, tags: Mapping[str, str]) -> bool:
    """Record it in the run's folder and send that; return False where the folder is not at hand."""
    folder = Path(record.tags.get(FOLDER) or "/dev/null")
    with suppress(UserError, OSError):
        identity = read_identity(folder)
        if (identity.run_id, identity.uri) != (record.run_id, redacted(record.uri)):
            return False
        lock = RunLock(folder)
        try:
            journal = Journal(folder / JOURNAL)
            journal.append(metrics, step)
            journal.record(tags=dict(tags))
            journal.sync()
            journal.close()
            write_curve_files(folder / JOURNAL, identity.also, last_status(folder))
            return Sender(LateSink(record.uri)).flush([JournalCursor(identity, folder)])
        finally:
            lock.release()
    return False

"""Tracker of one run: log metrics, tags, artifacts; finish."""

import logging
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

from reglab.core import atomic_write
from reglab.core.describe_error import storable
from reglab.core.errors import UserError
from reglab.core.secrets import hide
from reglab.tracking.artifacts import leads_out
from reglab.tracking.curve_files import write_curve_files
from reglab.tracking.folder import JOURNAL, Identity, shell_path
from reglab.tracking.journal import Journal
from reglab.tracking.journal_lines import layout
from reglab.tracking.lock import RunLock
from reglab.tracking.run_state import last_status
from reglab.tracking.sender import JournalCursor, Sender
from reglab.tracking.store_gate import naming_option
from reglab.tracking.thinning import Thinning

_log = logging.getLogger(__name__)
_NOTE_LIMIT = 7_900  # MLflow cuts a tag at 8,000 characters
_SYNC_THREADS = 16  # at once: the file system makes many files durable together

Status = Literal["FINISHED", "FAILED", "KILLED"]


class RunTracker:
    """Records metrics, tags, artifacts, notes and the end of the run ``identity`` in ``folder``.

    Args:
        sender: Sends the journal to a store in the background; None keeps all in the folder.
        lock: The folder's, given back when the run ends; None: the caller keeps it.
    """

    def __init__(self, identity: Identity, folder: Path, sender: Sender | None, lock: RunLock | None = None) -> None:
        self.run_id = identity.run_id
        self.folder = folder
        self.journal = Journal(folder / JOURNAL)
        self._rule = identity.thinning
        self._also = identity.also
        self._has_store = identity.uri is not None
        self._naming = naming_option(identity.uri, folder)
        self._sender = sender
        self._lock = lock
        self._ended = False
        self._diverged = False
        if sender:
            self._cursor = JournalCursor(identity, folder)
            sender.add(self._cursor)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record one value for each key at ``step``.

        A key that has a value at ``step`` keeps the one it has.
        """
        self.journal.append(metrics, step)

    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Record the run's result: each metric as ``final/<key>``, at the last step logged."""
        self.log({f"final/{key}": value for key, value in metrics.items()}, self.journal.top)

    def tag(self, **tags: object) -> None:
        """Set tags; a later value replaces an earlier one.

        Dotted names: ``tag(**{"reglab.score": "r2"})``.
        """
        self._diverged |= tags.get("reglab.failure") == "diverged"
        self.journal.record(tags={key: storable(hide(str(value))) for key, value in tags.items()})

    def note(self, markdown: str) -> None:
        """Set the note that MLflow shows on the run's page.

        Beyond 7,900 characters the whole note is in ``note.md``.
        """
        if len(markdown) > _NOTE_LIMIT:
            path = self.folder / "note.md"
            atomic_write.write(path, hide(markdown))
            self.artifact(path)
            markdown = markdown[:_NOTE_LIMIT] + "\n\n(continued in the artifact note.md)"
        self.tag(**{"mlflow.note.content": markdown})

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Store a file, or the files of a folder, under ``folder`` of the run's artifacts.

        It is read in the background, when the run finishes, or by ``reglab sync``: a file in the
        run's folder must stay there until then; other files are copied to ``attached/`` in it.

        Raises:
            UserError: Where there is nothing at ``path``, or ``folder`` leads out of the artifacts.
        """
        path = Path(path).resolve()
        if not path.exists():
            raise UserError(f"artifact {path} does not exist: write it before it is handed to the tracker")
        if leads_out(folder):
            raise UserError(f"artifact folder {folder!r} leads out of the run's artifacts: give a plain relative path")
        home = self.folder.resolve()
        if not path.is_relative_to(home):
            path = _copy_into(path, home / "attached" / folder)
        # Relative: the folder can move.
        self.journal.record(artifact=str(path.relative_to(home)), folder=folder)

    def sync(self) -> int:
        """Make all records durable and return the journal's position, for a checkpoint.

        Raises:
            OSError: Where the run's folder is not in its place any more.
        """
        self.journal.check_in_place()
        return self.journal.sync()

    def flush(self) -> bool:
        """Send everything recorded so far; return False where there is no reachable store."""
        return self._sender.flush([self._cursor]) if self._sender else False

    def finish(self, status: Status = "FINISHED") -> None:
        """Record the end, send the rest and close. A second call does nothing."""
        finish_runs([self], [status])

    def _record_end(self, status: Status) -> None:
        last: dict[str, object] = {}
        if self._has_store and self._rule != Thinning() and self.journal.in_place:
            from reglab.tracking.full_series import complete  # imports pyarrow

            path = self.folder / "metrics.parquet"
            # A run that may be resumed gets the same rows as one that was never stopped.
            if series := complete(self.journal.path, self._rule, path, ended=status == "FINISHED" or self._diverged):
                self.tag(**{"reglab.points": series[0]})
                self.artifact(path)
                last["last"] = series[1]
        if self.journal.in_place:
            write_curve_files(self.journal.path, self._also, status)
        self.journal.record(status=status, **last)
        self._ended = True

    def _close(self, status: Status) -> None:
        if self._sender and (unsent := self.journal.position - self._cursor.sent) and self.journal.in_place:
            _log.warning(
                "Run %s ended %s, but %d bytes of its journal are not in the store yet. They are safe in %s. To "
                "send them when the store is back: reglab sync %s%s",
                self.run_id, status, unsent, self.journal.path, shlex.quote(str(self.folder)), self._naming,
            )  # fmt: skip
        self.journal.close()
        if self._lock:
            self._lock.release()


def _copy_into(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copy2(path, target)  # a link would change with the original
    return target


def sync_runs(trackers: Sequence[RunTracker]) -> list[int]:
    """Do ``sync`` for each tracker, at once, and return the positions."""
    return _in_threads(RunTracker.sync, trackers)


def _in_threads(function: Callable[[RunTracker], int], trackers: Sequence[RunTracker]) -> list[int]:
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        return list(pool.map(function, trackers))


def finish_runs(trackers: Sequence[RunTracker], statuses: Sequence[Status]) -> None:
    """Do ``finish`` for each tracker with its status; runs that share a writer are sent together.

    Args:
        trackers: The runs' trackers.
        statuses: FINISHED, FAILED or KILLED for each.

    Raises:
        ValueError: For an unknown status, before anything is recorded.
    """
    for status in statuses:
        if status not in get_args(Status):
            raise ValueError(f"status must be one of {', '.join(get_args(Status))}, got {status!r}")
    unfinished = [(tracker, status) for tracker, status in zip(trackers, statuses, strict=True) if not tracker._ended]
    for tracker, status in unfinished:
        tracker._record_end(status)
    _in_threads(lambda tracker: tracker.journal.sync(), [tracker for tracker, _ in unfinished])
    try:
        for sender in {tracker._sender for tracker, _ in unfinished if tracker._sender}:
            sender.close([tracker._cursor for tracker, _ in unfinished if tracker._sender is sender])
    finally:  # Ctrl-C ends the wait for the store
        for tracker, status in unfinished:
            tracker._close(status)


def finish_killed(folder: Path, identity: Identity) -> list[str]:
    """End the run in ``folder`` KILLED if no end is recorded, and return the messages about it.

    The caller has its lock.
    """
    if last_status(folder) != "RUNNING":
        return []
    run = RunTracker(identity, folder, sender=None)
    run.tag(**{"reglab.message": "its process was gone"})
    run.finish("KILLED")
    named = naming_option(identity.uri, folder)
    return [f"ended KILLED, since its process was gone (to resume: reglab resume {shell_path(folder)}{named})"]


def log_pack(trackers: Sequence[RunTracker], keys: Sequence[str], values: Sequence[Sequence[float]], step: int) -> None:
    """Log a row of ``values`` for each tracker, several times faster than ``tracker.log``.

    Args:
        trackers: The members' trackers.
        keys: Metric keys, each once.
        values: Numbers [members, keys], as ``Tensor.tolist`` gives them; NaN and infinities too.
        step: The optimizer step of all rows.

    Raises:
        ValueError: Where the lengths do not fit or a key is there twice.
    """
    common = layout(tuple(keys))
    if len(values) != len(trackers) or any(len(row) != len(common.keys) for row in values):
        lengths = sorted({len(row) for row in values})
        raise ValueError(
            f"values must be {len(trackers)} rows of {len(common.keys)} numbers, got {len(values)} rows of {lengths}"
        )
    now = time.time_ns() // 1_000_000
    for tracker, row in zip(trackers, values, strict=True):
        tracker.journal.append_row(common, row, step, now)

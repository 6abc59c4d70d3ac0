"""Background sender of journals to the store."""

import logging
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reglab.core.describe_error import describe_error
from reglab.tracking.artifacts_left import Artifact, ArtifactLeft, read_left, write_left
from reglab.tracking.folder import JOURNAL, SENT, Identity, shell_path
from reglab.tracking.payload import ROWS, Payload, Refused, Sink, Unsent, read_payload

_log = logging.getLogger(__name__)
# A payload has this many times more rows while a caller waits: fewer commits, a quarter less time.
_CLOSE_FACTOR = 4
_SYNC_THREADS = 16  # the file system makes many files durable together
_CHECKSUM_BYTES = 256  # before a position; they identify it


@dataclass(frozen=True)
class SenderLimits:
    """How much a ``Sender`` sends at once, and how long it waits.

    Args:
        rows: Metric rows of a payload that is sent in the background.
        rows_after_failure: Rows of the first payload after a failure, then twice as many each time.
        backlog_bytes: Unsent bytes that are sent before their time, so that little is left at the
            end; 1 MiB is some 25,000 rows.
        poll_seconds: Between checks of the backlog.
        close_seconds: The end of a run waits so long for a store that was unreachable at the last
            attempt: ``reglab sync`` sends the rest.
        last_seconds: It waits so long for a store that was not; from ``quiet_seconds`` on it says
            so.
    """

    rows: int = ROWS
    rows_after_failure: int = 1_000
    backlog_bytes: int = 1 << 20
    poll_seconds: float = 1.0
    close_seconds: float = 15.0
    last_seconds: float = 600.0
    quiet_seconds: float = 5.0


class JournalCursor:
    """Position up to which the store has one run's journal.

    The position is written after the store has committed a payload, so it may lag, never lead: a
    crash in between sends the payload twice, which changes nothing. It is not made durable
    for the same reason.

    Attributes:
        folder: Of the run.
        sent: The position up to which the store has it.
        left: Why artifacts before that position are not in the store.
    """

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.sent = read_position(folder / SENT, (folder / JOURNAL).stat().st_size)
        self.left = read_left(folder)
        self.isolated = False  # the store refused it: it must not hold up others
        self._identity, self.folder = identity, folder

    def read(self, rows: int) -> Payload | None:
        """Return what is to be sent next, about ``rows`` metric rows at most.

        None if nothing is left.
        """
        payload = read_payload(self._identity, self.folder, self.sent, rows)
        return payload if payload.end > self.sent else None

    def sync(self) -> None:
        """Make the journal durable before its rows are sent.

        Rows that a store has and a power loss took from the journal would come again, when the run
        is resumed, with other times, which makes them other rows.
        """
        # For writing, which some systems ask for.
        with (self.folder / JOURNAL).open("r+b") as file:
            os.fsync(file.fileno())

    def send_artifacts(self, sink: Sink, artifacts: Iterable[Artifact]) -> None:
        """Store artifacts one by one; those that the store does not take are written down in ``left``."""
        left, away = dict(self.left), ""
        for artifact in list(artifacts):
            try:
                if away:
                    raise ArtifactLeft(away)
                sink.send_artifact(self._identity.run_id, self.folder, artifact)
                left.pop(artifact, None)
            except ArtifactLeft as error:
                left[artifact] = str(error)
                away = "" if error.others and not away else str(error)
        if left != self.left:
            write_left(self.folder, left)
            self.left = left

    def acknowledge(self, payload: Payload) -> None:
        """Keep in mind that the store has ``payload``."""
        self.sent = payload.end
        write_position(self.folder / SENT, self.sent)

    def refusal(self, error: Exception) -> Exception:
        """Return why the run is not sent, in one sentence that names its folder."""
        if isinstance(error, Refused):
            return error
        return Refused(f"the run in {self.folder} cannot be sent ({describe_error(error)})")

    def backlog(self) -> int:
        """Return the number of bytes not sent yet; 0 where that is unknown."""
        try:
            return (self.folder / JOURNAL).stat().st_size - self.sent
        except OSError:
            return 0


class Sender:
    """Background thread that sends journals of runs to ``sink`` every ``seconds``."""

    def __init__(self, sink: Sink, seconds: float = 5.0, limits: SenderLimits = SenderLimits()) -> None:
        self._sink, self._seconds, self._limits = sink, seconds, limits
        self._cursors: list[JournalCursor] = []
        self._lock = threading.Lock()
        # Training waits for the lock: the background leaves the rest for later.
        self._urgent = threading.Event()
        self._stopped = threading.Event()
        self._unreachable = False
        self._told: set[str] = set()  # why artifacts are left
        self._max_rows = _CLOSE_FACTOR * limits.rows
        self._thread = threading.Thread(target=self._run, name="reglab-sender", daemon=True)

    def add(self, cursor: JournalCursor) -> None:
        """Send ``cursor``'s journal too. The first one starts the background thread."""
        with self._with_priority():
            self._cursors.append(cursor)
        if not self._thread.ident:
            self._thread.start()

    def flush(self, cursors: Sequence[JournalCursor]) -> bool:
        """Send now all that ``cursors`` hold.

        False: the store did not accept it, and the reason was logged once.
        """
        with self._with_priority():
            return self._send_all(cursors)

    def close(self, cursors: Sequence[JournalCursor]) -> None:
        """Send all that ``cursors`` hold, and nothing of them from now on.

        With the last one the thread ends. A store that was unreachable at the last attempt gets
        ``close_seconds``: training does not end minutes late for it. Another one gets
        ``last_seconds``; Ctrl-C ends the wait.
        """
        limits = self._limits
        seconds = limits.close_seconds if self._unreachable else limits.last_seconds
        thread = threading.Thread(target=self._flush_and_stop, args=(cursors,), name="reglab-sender-end", daemon=True)
        thread.start()
        thread.join(min(limits.quiet_seconds, seconds))
        if thread.is_alive() and seconds > limits.quiet_seconds:
            _log.warning(
                "Waiting for the store to take what was recorded, %.0f s at most. Ctrl-C leaves the rest to reglab "
                "sync.", seconds,
            )  # fmt: skip
            thread.join(seconds - limits.quiet_seconds)

    def _flush_and_stop(self, cursors: Sequence[JournalCursor]) -> None:
        with self._with_priority():
            self._cursors = [each for each in self._cursors if each not in cursors]
            self._send_all(cursors)
            left = bool(self._cursors)
        if not left:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        pause, waited = min(self._seconds, self._limits.poll_seconds), 0.0
        while not self._stopped.wait(pause):
            waited += pause
            if waited >= self._seconds or self._is_large():
                waited = 0.0
                with self._lock:
                    self._send(self._cursors, self._urgent)

    def _is_large(self) -> bool:
        return not self._unreachable and sum(cursor.backlog() for cursor in self._cursors) > self._limits.backlog_bytes

    @contextmanager
    def _with_priority(self) -> Iterator[None]:
        self._urgent.set()
        with self._lock:
            self._urgent.clear()
            yield

    def _send_all(self, cursors: Sequence[JournalCursor]) -> bool:
        """Send the journals, and again the artifacts that were left before."""
        before = {cursor: list(cursor.left) for cursor in cursors if cursor.left}
        sent = self._send(cursors)
        for cursor, artifacts in before.items():
            if sent and not cursor.isolated:
                cursor.send_artifacts(self._sink, artifacts)
                self._tell_left(cursor)
        return sent and not any(cursor.left for cursor in cursors)

    def _tell_left(self, cursor: JournalCursor) -> None:
        """Warn of the first artifact that is left for a reason."""
        for (name, _), why in cursor.left.items():
            if why not in self._told:
                self._told.add(why)
                _log.warning(
                    "The artifact %s of the run in %s is not in the store (%s). Rows and status are; the file stays in "
                    "the folder, and this tries it again: reglab sync %s",
                    name, cursor.folder, why, shell_path(cursor.folder),
                )  # fmt: skip

    def _send(self, cursors: Sequence[JournalCursor], until: threading.Event | None = None) -> bool:
        groups = [[each for each in cursors if not each.isolated], *([each] for each in cursors if each.isolated)]
        failure: Exception | None = None
        while groups:
            group = groups.pop(0)
            try:
                self._send_group(group, until)
            except Exception as error:  # noqa: BLE001 - also what nobody foresaw: one run's fault costs one run
                # a full disk takes no position; a journal on a network drive is away
                if isinstance(error, (Unsent, OSError)) and not isinstance(error, Refused):
                    failure = error
                    self._max_rows = self._limits.rows_after_failure
                    break
                if len(group) > 1:  # which of them? one by one
                    groups.extend([each] for each in group)
                else:
                    group[0].isolated, failure = True, group[0].refusal(error)
        if failure and not self._unreachable:
            _log.warning("%s. Training continues: the journal keeps everything, and sending is tried again.", failure)
        self._unreachable = failure is not None
        return failure is None

    def _send_group(self, cursors: Sequence[JournalCursor], until: threading.Event | None) -> None:
        while ready := [(each, payload) for each in cursors if (payload := each.read(self._rows(until, cursors)))]:
            _sync([cursor for cursor, _ in ready])
            self._sink.send([payload for _, payload in ready])
            for cursor, payload in ready:
                cursor.send_artifacts(self._sink, payload.artifacts)
                self._tell_left(cursor)
                cursor.acknowledge(payload)
            self._max_rows = min(2 * self._max_rows, _CLOSE_FACTOR * self._limits.rows)
            if until and until.is_set():
                return

    def _rows(self, until: threading.Event | None, cursors: Sequence[JournalCursor]) -> int:
        limit = self._limits.rows if until else _CLOSE_FACTOR * self._limits.rows
        return max(1, min(self._max_rows, limit) // len(cursors))


def read_position(path: Path, length: int) -> int:
    """Return the position kept in ``path``.

    0, which sends all again, if there is none or it is not the journal's. That is so where it lies
    behind ``length``, the journal's length, or other bytes stand before it than when it was
    kept: a power loss has shortened the journal, and perhaps it has grown again since.

    Args:
        path: ``journal.sent`` of a run.
        length: Length of the journal in bytes.
    """
    try:
        position, *checksum = path.read_text().split()
        if not 0 <= int(position) <= length or (checksum and int(checksum[0]) != _checksum(path, int(position))):
            return 0
        return int(position)
    except (OSError, ValueError):
        return 0


def is_cut(folder: Path) -> bool:
    """Return whether the journal of the run in ``folder`` has lost what the store has of it already.

    That is damage: it is made durable before it is sent.

    Args:
        folder: Of the run.
    """
    journal = folder / JOURNAL
    with suppress(OSError, ValueError):
        sent = int((folder / SENT).read_text().split()[0])
        return sent > 0 and (not journal.exists() or not read_position(folder / SENT, journal.stat().st_size))
    return False


def write_position(path: Path, position: int) -> None:
    """Write ``position`` atomically: a crash leaves the old or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(f"{position} {_checksum(path, position)}")
    fresh.replace(path)


def _checksum(path: Path, position: int) -> int:
    with path.with_name(JOURNAL).open("rb") as journal:
        start = journal.seek(max(0, position - _CHECKSUM_BYTES))
        return zlib.crc32(journal.read(position - start))


def _sync(cursors: Sequence[JournalCursor]) -> None:
    if len(cursors) == 1:
        cursors[0].sync()
        return
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(JournalCursor.sync, cursors))

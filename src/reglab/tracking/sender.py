"""The writer behind training's back: sends journals to the store every few seconds."""

import logging
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from reglab.tracking.folder import JOURNAL, SENT, Identity
from reglab.tracking.payload import ROWS, Batch, Refused, Sink, Unsent, read_batch

_log = logging.getLogger(__name__)
_LOOK = 1.0  # seconds between looks at how much there is to send
_MUCH = 1 << 20  # bytes of journals, some 25,000 rows: sent at once, so that little is left when training ends
_WAITING = 4  # times as many rows a batch when somebody waits for all of them: fewer commits, a quarter less time
_FEW = 1_000  # rows a batch after a failure, then twice as many each time: what a store took before it went stays taken
_PATIENCE = 15.0  # seconds that the end of a run waits for a store known to be away: `reglab sync` sends the rest
_SYNCS = 16  # at once: the file system makes many files durable together
_SEAL = 256  # bytes before a position by which it is known again


class Outlet:
    """The way out of one run's journal. sent: the position up to which the store has it.

    The position is written after the store has committed a batch, so it may lag, never lead: a death in between sends
    the batch twice, which the store must not mind. It is not made durable for the same reason.
    """

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.sent = read_position(folder / SENT, (folder / JOURNAL).stat().st_size)
        self.apart = False  # the store refused it: it must not hold up others
        self._identity, self._folder = identity, folder

    def read(self, rows: int) -> Batch | None:
        """Return what is to be sent next, about ``rows`` metric rows at most; None if nothing is left."""
        batch = read_batch(self._identity, self._folder, self.sent, rows)
        return batch if batch.end > self.sent else None

    def sync(self) -> None:
        """Make the journal durable before its rows are sent.

        Rows that a store has and a power loss took from the journal would come again, when the run is resumed, with
        other times, which makes them other rows.
        """
        with (self._folder / JOURNAL).open("r+b") as file:  # for writing, which some systems ask for
            os.fsync(file.fileno())

    def took(self, batch: Batch) -> None:
        """Keep in mind that the store has ``batch``."""
        self.sent = batch.end
        write_position(self._folder / SENT, self.sent)

    def backlog(self) -> int:
        """Return how many bytes are not sent yet; 0 where that cannot be told."""
        try:
            return (self._folder / JOURNAL).stat().st_size - self.sent
        except OSError:
            return 0


class Drainer:
    """Sends the journals of one run, or of all runs of a pack, to ``sink`` every ``seconds``, in one thread."""

    def __init__(self, sink: Sink, seconds: float = 5.0) -> None:
        self._sink, self._seconds = sink, seconds
        self._outlets: list[Outlet] = []
        self._lock = threading.Lock()
        self._hurry = threading.Event()  # training waits for the lock: the background leaves the rest for later
        self._stopped = threading.Event()
        self._warned = False
        self._most = _WAITING * ROWS
        self._thread = threading.Thread(target=self._run, name="reglab-drainer", daemon=True)

    def add(self, outlet: Outlet) -> None:
        """Send ``outlet``'s journal too. The first one starts the background thread."""
        with self._first():
            self._outlets.append(outlet)
        if not self._thread.ident:
            self._thread.start()

    def drain(self, outlets: Sequence[Outlet]) -> bool:
        """Send now all that ``outlets`` hold. False: the store did not take it, and the reason was said once."""
        with self._first():
            return self._send(outlets)

    def close(self, outlets: Sequence[Outlet]) -> None:
        """Send all that ``outlets`` hold, and nothing of them from now on; with the last one the thread ends.

        A store that was away when it was last asked gets 15 seconds: training does not end minutes late for it.
        """
        known_away = self._warned
        end = threading.Thread(target=self._end, args=(outlets,), name="reglab-drainer-end", daemon=True)
        end.start()
        end.join(_PATIENCE if known_away else None)

    def _end(self, outlets: Sequence[Outlet]) -> None:
        with self._first():
            self._outlets = [each for each in self._outlets if each not in outlets]
            self._send(outlets)
            left = bool(self._outlets)
        if not left:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        pause, waited = min(self._seconds, _LOOK), 0.0
        while not self._stopped.wait(pause):
            waited += pause
            if waited >= self._seconds or self._is_much():
                waited = 0.0
                with self._lock:
                    self._send(self._outlets, self._hurry)

    def _is_much(self) -> bool:
        return not self._warned and sum(outlet.backlog() for outlet in self._outlets) > _MUCH

    @contextmanager
    def _first(self) -> Iterator[None]:
        self._hurry.set()
        with self._lock:
            self._hurry.clear()
            yield

    def _send(self, outlets: Sequence[Outlet], until: threading.Event | None = None) -> bool:
        groups = [[each for each in outlets if not each.apart], *([each] for each in outlets if each.apart)]
        failure: Exception | None = None
        while groups:
            group = groups.pop(0)
            try:
                self._send_group(group, until)
            except Refused as reason:
                if len(group) > 1:  # which of them? one by one
                    groups.extend([each] for each in group)
                else:
                    group[0].apart, failure = True, reason
            except (Unsent, OSError) as reason:  # a full disk takes no position; a journal on a network drive is away
                failure = reason
                self._most = _FEW
                break
        if failure and not self._warned:
            _log.warning("%s. Training goes on; the journal keeps everything and sending is tried again.", failure)
        self._warned = failure is not None
        return failure is None

    def _send_group(self, outlets: Sequence[Outlet], until: threading.Event | None) -> None:
        while ready := [(each, batch) for each in outlets if (batch := each.read(self._rows(until, outlets)))]:
            _sync([outlet for outlet, _ in ready])
            self._sink.send([batch for _, batch in ready])
            for outlet, batch in ready:
                outlet.took(batch)
            self._most = min(2 * self._most, _WAITING * ROWS)
            if until and until.is_set():
                return

    def _rows(self, until: threading.Event | None, outlets: Sequence[Outlet]) -> int:
        return max(1, min(self._most, ROWS if until else _WAITING * ROWS) // len(outlets))


def read_position(path: Path, most: int) -> int:
    """Return the position kept in ``path``; 0, which sends all again, if there is none or it is not the journal's.

    That is so where it lies behind ``most``, the journal's length, or other bytes stand before it than when it was
    kept: a power loss has shortened the journal, and perhaps it has grown again since.
    """
    try:
        position, *seal = path.read_text().split()
        if not 0 <= int(position) <= most or (seal and int(seal[0]) != _seal(path, int(position))):
            return 0
        return int(position)
    except (OSError, ValueError):
        return 0


def write_position(path: Path, position: int) -> None:
    """Write ``position`` so that a death of the process leaves the old or the new one, never a part."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(f"{position} {_seal(path, position)}")
    fresh.replace(path)


def _seal(path: Path, position: int) -> int:
    with path.with_name(JOURNAL).open("rb") as journal:
        start = journal.seek(max(0, position - _SEAL))
        return zlib.crc32(journal.read(position - start))


def _sync(outlets: Sequence[Outlet]) -> None:
    if len(outlets) == 1:
        outlets[0].sync()
        return
    with ThreadPoolExecutor(_SYNCS) as pool:
        list(pool.map(Outlet.sync, outlets))

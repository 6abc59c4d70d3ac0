"""The writer behind training's back: sends journals to the store every few seconds."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reglab.tracking.batch import ROWS, Batch, Refused, Sink, Unsent, read_batch
from reglab.tracking.folder import JOURNAL, SENT, Identity

_log = logging.getLogger(__name__)


class Outlet:
    """The way out of one run's journal. sent: the position up to which the store has it.

    The position is written after the store has taken a batch: a death in between sends the batch twice, which the
    store must not mind.
    """

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.sent = read_position(folder / SENT, (folder / JOURNAL).stat().st_size)
        self.apart = False  # the store refused it: it must not hold up others
        self._identity, self._folder = identity, folder

    def read(self, rows: int) -> Batch | None:
        """Return what is to be sent next, about ``rows`` metric rows at most; None if nothing is left."""
        batch = read_batch(self._identity, self._folder, self.sent, rows)
        return batch if batch.end > self.sent else None

    def took(self, batch: Batch) -> None:
        """Keep in mind that the store has ``batch``."""
        self.sent = batch.end
        write_position(self._folder / SENT, self.sent)


class Drainer:
    """Sends the journals of one run, or of all runs of a pack, to ``sink`` every ``seconds``, in one thread."""

    def __init__(self, sink: Sink, seconds: float = 5.0) -> None:
        self._sink, self._seconds = sink, seconds
        self._outlets: list[Outlet] = []
        self._lock = threading.Lock()
        self._hurry = threading.Event()  # training waits for the lock: the background leaves the rest for later
        self._stopped = threading.Event()
        self._warned = False
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
        """Send all that ``outlets`` hold, and nothing of them from now on; with the last one the thread ends."""
        with self._first():
            self._outlets = [each for each in self._outlets if each not in outlets]
            self._send(outlets)
            left = bool(self._outlets)
        if not left:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            with self._lock:
                self._send(self._outlets, self._hurry)

    @contextmanager
    def _first(self) -> Iterator[None]:
        self._hurry.set()
        with self._lock:
            self._hurry.clear()
            yield

    def _send(self, outlets: Sequence[Outlet], until: threading.Event | None = None) -> bool:
        groups = [[each for each in outlets if not each.apart], *([each] for each in outlets if each.apart)]
        failure: Unsent | None = None
        while groups:
            group = groups.pop(0)
            try:
                self._send_group(group, until)
            except Refused as reason:
                if len(group) > 1:  # which of them? one by one
                    groups.extend([each] for each in group)
                else:
                    group[0].apart, failure = True, reason
            except Unsent as reason:
                failure = reason
                break
        if failure and not self._warned:
            _log.warning("%s. Training goes on; the journal keeps everything and sending is tried again.", failure)
        self._warned = failure is not None
        return failure is None

    def _send_group(self, outlets: Sequence[Outlet], until: threading.Event | None) -> None:
        rows = max(1, ROWS // max(1, len(outlets)))
        while ready := [(each, batch) for each in outlets if (batch := each.read(rows))]:
            self._sink.send([batch for _, batch in ready])
            for outlet, batch in ready:
                outlet.took(batch)
            if until and until.is_set():
                return


def read_position(path: Path, most: int) -> int:
    """Return the position kept in ``path``; 0, which sends all again, if there is none or it lies behind ``most``.

    It lies behind where a power loss shortened the journal.
    """
    try:
        position = int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
    return position if 0 <= position <= most else 0


def write_position(path: Path, position: int) -> None:
    """Write ``position`` so that a death leaves the old or the new one, never a part."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(str(position))
    fresh.replace(path)

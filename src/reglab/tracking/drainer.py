"""The writer behind training's back: sends the journal to the store every few seconds."""

import logging
import threading
from pathlib import Path

from reglab.tracking.batch import Sink, Unsent, read_batch

_log = logging.getLogger(__name__)


class Drainer:
    """Sends what stands in the file ``journal`` behind the position in ``sent_file``, and moves that position on.

    The position is written after the store has taken a batch: a death in between sends the batch twice, which the
    store must not mind.
    """

    def __init__(self, journal: Path, sink: Sink, sent_file: Path, seconds: float) -> None:
        self.sent = read_position(sent_file, journal.stat().st_size)
        self._journal, self._sink, self._sent_file, self._seconds = journal, sink, sent_file, seconds
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="reglab-drainer", daemon=True)

    def start(self) -> None:
        """Begin to send in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more in the background; a batch on its way is waited for."""
        self._stopped.set()
        self._thread.join()

    def drain(self) -> bool:
        """Send all that is there now. False: the store did not take it, and the reason was said once."""
        with self._lock:
            try:
                while (batch := read_batch(self._journal, self.sent)).end > self.sent:
                    self._sink.send(batch)
                    self.sent = batch.end
                    write_position(self._sent_file, self.sent)
            except Unsent as reason:
                if not self._warned:
                    _log.warning(
                        "%s. Training goes on; the journal keeps everything and sending is tried again.", reason
                    )
                self._warned = True
                return False
            self._warned = False
            return True

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.drain()


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

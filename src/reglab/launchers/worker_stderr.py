"""Standard error of a worker process: shown by the sweep's process, its last lines kept."""

import os
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection

_LINES, _CHARACTERS = 3, 400  # of what a dead worker wrote last
_AT_ONCE = 1 << 20  # bytes of it that are shown; of more only the end
_KEPT_ON_DISK = 1 << 24  # bytes, after which the file is emptied


class WorkerStderr:
    """A file without a name that a worker writes its standard error to.

    A pipe would hold up the worker where nobody reads, and a terminal would not tell afterwards
    what a worker said last. Where no such file can be made, the worker has our standard error.

    Attributes:
        child_end: For ``child_processes.start``; None where there is no file.
    """

    def __init__(self) -> None:
        self._read, self._emptied, self._last = 0, 0, b""
        self.child_end: Connection | None = None
        with suppress(OSError):  # no temporary folder that can be written
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its worker
            if os.name != "nt":
                self.child_end = Connection(os.dup(self._file.fileno()), readable=False)

    def begin(self) -> None:
        """Forget what was written, before a worker begins another group of jobs."""
        self.forward()
        self._last = b""

    def forward(self) -> None:
        """Show what was written since the last call, on this process's standard error."""
        if self.child_end is None:
            return
        with suppress(OSError):
            number = self._file.fileno()
            size = os.fstat(number).st_size
            text = os.pread(number, _AT_ONCE, max(self._read, size - _AT_ONCE)).lstrip(b"\0")
            self._read = size
            if size - self._emptied > _KEPT_ON_DISK:
                os.ftruncate(number, 0)  # the worker continues behind what is now a hole
                self._emptied = size
            if text:
                self._last = (self._last + text)[-4 * _CHARACTERS :]
                print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)

    def last_lines(self) -> str:
        """Return the last lines that were written, in one line; empty if there are none."""
        lines = [line.strip() for line in self._last.decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-_LINES:])[-_CHARACTERS:]

    def close(self) -> None:
        """Show the rest, and give the file back."""
        self.forward()
        self._give_back()

    def __del__(self) -> None:
        self._give_back()  # where its worker could not be started

    def _give_back(self) -> None:
        if self.child_end is not None:
            self.child_end.close()
            self._file.close()
            self.child_end = None

"""Standard streams that never end a program: what cannot be written is dropped.

The reader of a pipe goes away, a terminal hangs up, the disk behind a log is full: training, and
the exit code that tells of it, do not depend on who watches.
"""

import errno
import os
import sys
from typing import Any, TextIO, cast

from reglab.core.secrets import guard_output

# Errors after which a stream never takes anything again; a disk may have room again later.
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare_output() -> None:
    """Make the standard streams safe: open, of any encoding, without secrets, never raising.

    A second call changes nothing.
    """
    _open_missing()
    for name, mode in _STREAMS:
        if mode == "w":
            setattr(sys, name, dropping(getattr(sys, name)))
    guard_output()


def dropping(stream: TextIO) -> TextIO:
    """Return a stream that writes to ``stream`` what can be written, and raises nothing.

    Args:
        stream: Any; one that does so already is returned itself.
    """
    return stream if getattr(stream, "drops_errors", False) else cast(TextIO, _Dropping(stream))


def _open_missing() -> None:
    """Open closed standard streams on nothing: the next file would get their number.

    ``2>&-`` would otherwise let the store of the runs be opened as 2, and messages of C libraries
    be written into it.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _open_nothing(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _open_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
    os.set_inheritable(number, True)


class _Dropping:
    """A text stream whose ``write`` and ``flush`` raise nothing."""

    drops_errors = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: the model closed it
            self._drop(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._drop(error)

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: Exception) -> None:
        """Let a stream that takes nothing any more write to nothing, also what it has buffered."""
        if isinstance(error, OSError) and error.errno in _GONE:
            try:
                _open_nothing(self._stream.fileno())
            except (OSError, ValueError):  # a stream without a number, as a notebook's
                return

"""Child processes that do one thing together: waited for, told apart in how they end, and none left behind."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from reglab.core import signals

_GRACE = 20.0  # seconds that processes have to end once one has failed, or they were asked to
_LONGEST = 20_000  # characters of a traceback
# What a process says whose partner is gone: not the cause.
_CONSEQUENCES = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "tcpstore")


@dataclass
class Child:
    """A child process. error: what it raised, where it told so. code: its exit code, where it ended by itself."""

    rank: int
    process: BaseProcess
    pipe: Connection
    error: BaseException | None = None
    code: int | None = None

    @property
    def is_cause(self) -> bool:
        """Whether it ended badly, and not only because another one did."""
        if self.error is None:
            return self.code not in (0, None)
        said = str(self.error).lower()
        return not (isinstance(self.error, RuntimeError) and any(word in said for word in _CONSEQUENCES))

    def hear(self) -> None:
        """Take in what the process tells of its end, and its exit code."""
        with contextlib.suppress(EOFError, OSError):
            if self.error is None and self.pipe.poll():
                self.error = self._told()
        if not self.process.is_alive():
            self.code = self.process.exitcode

    def _told(self) -> BaseException:
        text = self.pipe.recv()
        try:
            kind, arguments, attributes = self.pipe.recv()
            error: BaseException = kind.__new__(kind, *arguments)  # not its __init__, which may want other arguments
            error.args = arguments
            error.__dict__.update(attributes)
        except Exception:  # noqa: BLE001 - a class that only the other process knows, or without such a __new__
            error = RuntimeError(text.strip().splitlines()[-1])
        error.add_note(f"In the process of rank {self.rank}:\n{text}")
        return error

    def raised(self) -> BaseException:
        """Return what is to be raised for it."""
        if self.error is not None:
            return self.error
        why = ": it was killed, most often by the system because memory ran out" if self.code == -9 else ""
        if self.code == 1:
            why = ", as it printed; where this is a script, put reglab.fit under if __name__ == '__main__':"
        return RuntimeError(f"the process of rank {self.rank} ended with exit code {self.code}{why}")


class Family:
    """Children that live inside the context at most."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> "Family":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.process.kill()
            child.process.join()
            child.pipe.close()

    def add(self, child: Child) -> None:
        self._children.append(child)

    def wait(self) -> None:
        """Wait until all have ended. Raises what the first one raised that did not end well, RuntimeError if it died.

        Ctrl-C asks all to end, and is raised when they have.
        """
        try:
            self._until_ended(None)
        except KeyboardInterrupt:
            for child in self._children:
                if child.process.is_alive() and child.process.pid:
                    os.kill(child.process.pid, signal.SIGINT)
            self._until_ended(time.monotonic() + _GRACE)
            raise
        bad = [child for child in self._children if child.error is not None or child.code != 0]
        if bad:
            raise next((child for child in bad if child.is_cause), bad[0]).raised()

    def _until_ended(self, deadline: float | None) -> None:
        while left := [child for child in self._children if child.code is None]:
            pipes = [child.pipe for child in left if child.error is None]
            sources: list[Connection | int] = [*pipes, *(child.process.sentinel for child in left)]
            if not wait(sources, None if deadline is None else max(0.0, deadline - time.monotonic())):
                return
            for child in left:
                child.hear()
            if deadline is None and any(child.error is not None or child.code for child in left):
                deadline = time.monotonic() + _GRACE


@contextmanager
def tell(pipe: Connection) -> Iterator[None]:
    """In a child: tell through ``pipe`` what is raised inside the context, and end the process with it.

    The process ends in order when its parent is gone.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised in the parent
        text = "".join(traceback.format_exception(error))[-_LONGEST:]
        with contextlib.suppress(OSError):  # nobody listens any more
            pipe.send(text)
            try:
                pipe.send((type(error), error.args, dict(vars(error))))
            except Exception:  # noqa: BLE001 - it cannot be pickled: the text must do
                pipe.send(None)
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(signals.exit_code())

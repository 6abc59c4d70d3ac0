"""Child processes of one training run: join them, re-raise the first error, kill the rest."""

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

_EXIT_SECONDS = 20.0  # for the others to end after one failed or was interrupted
_MAX_TRACEBACK = 20_000  # characters of a traceback
# Errors of a process that lost its connection to another one: consequences, not the cause.
_CONNECTION_ERRORS = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "tcpstore")


@dataclass
class Child:
    """A child process and how it ended.

    Attributes:
        rank: Its rank.
        process: The process.
        pipe: Through which it sends what it raises.
        error: What it raised; None if nothing was received.
        code: Its exit code; None while it runs.
    """

    rank: int
    process: BaseProcess
    pipe: Connection
    error: BaseException | None = None
    code: int | None = None

    @property
    def is_cause(self) -> bool:
        """Whether it failed by itself, not only because another process was gone."""
        if self.error is None:
            return self.code not in (0, None)
        message = str(self.error).lower()
        return not (isinstance(self.error, RuntimeError) and any(part in message for part in _CONNECTION_ERRORS))

    def poll_end(self) -> None:
        """Receive the error that it sent, if any, and its exit code once it has ended."""
        with contextlib.suppress(EOFError, OSError):
            if self.error is None and self.pipe.poll():
                self.error = self._receive_error()
        if not self.process.is_alive():
            self.code = self.process.exitcode

    def _receive_error(self) -> BaseException:
        text = self.pipe.recv()
        try:
            error_type, arguments, attributes = self.pipe.recv()
            # Not its __init__, which may want other arguments.
            error: BaseException = error_type.__new__(error_type, *arguments)
            error.args = arguments
            error.__dict__.update(attributes)
        except Exception:  # noqa: BLE001 - a class that only the other process knows, or without such a __new__
            error = RuntimeError(text.strip().splitlines()[-1])
        error.add_note(f"In the process of rank {self.rank}:\n{text}")
        return error

    def exception(self) -> BaseException:
        """Return the exception to raise for this process: its own, or one with its exit code."""
        if self.error is not None:
            return self.error
        reason = ": it was killed, most often by the system because memory ran out" if self.code == -9 else ""
        if self.code == 1:
            reason = ". Its output is above; in a script, put reglab.fit under if __name__ == '__main__':"
        return RuntimeError(f"the process of rank {self.rank} ended with exit code {self.code}{reason}")


class ChildProcesses:
    """Child processes that are killed, at the latest, when the context ends."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> "ChildProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.process.kill()
            child.process.join()
            child.pipe.close()

    def add(self, child: Child) -> None:
        self._children.append(child)

    def wait(self) -> None:
        """Wait until all processes have ended; Ctrl-C interrupts all of them first.

        Raises:
            BaseException: What the first failed process raised, with its traceback as a note.
            RuntimeError: A process died without sending an exception.
            KeyboardInterrupt: Ctrl-C, after all processes have ended.
        """
        try:
            self._until_ended(None)
        except KeyboardInterrupt:
            for child in self._children:
                if child.process.is_alive() and child.process.pid:
                    os.kill(child.process.pid, signal.SIGINT)
            self._until_ended(time.monotonic() + _EXIT_SECONDS)
            raise
        failed = [child for child in self._children if child.error is not None or child.code != 0]
        if failed:
            raise next((child for child in failed if child.is_cause), failed[0]).exception()

    def _until_ended(self, deadline: float | None) -> None:
        while running := [child for child in self._children if child.code is None]:
            pipes = [child.pipe for child in running if child.error is None]
            sources: list[Connection | int] = [*pipes, *(child.process.sentinel for child in running)]
            if not wait(sources, None if deadline is None else max(0.0, deadline - time.monotonic())):
                return
            for child in running:
                child.poll_end()
            if deadline is None and any(child.error is not None or child.code for child in running):
                deadline = time.monotonic() + _EXIT_SECONDS


@contextmanager
def send_errors(pipe: Connection) -> Iterator[None]:
    """In a child process: send what is raised inside the context to the parent, and exit with 1.

    The process is terminated by SIGTERM when its parent is gone.

    Args:
        pipe: The child's end of its pipe to the parent.
    """
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised in the parent
        text = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
        with contextlib.suppress(OSError):  # the parent is gone
            pipe.send(text)
            try:
                pipe.send((type(error), error.args, dict(vars(error))))
            except Exception:  # noqa: BLE001 - it cannot be pickled: the text must do
                pipe.send(None)
        sys.exit(1)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_EXIT_SECONDS)
        os._exit(signals.exit_code())

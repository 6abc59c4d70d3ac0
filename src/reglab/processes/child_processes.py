"""Child processes: start and signal them, join them, re-raise the first error, kill the rest."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from reglab.core import secrets
from reglab.core.output import prepare_output

_EXIT_SECONDS = 20.0  # for the others to end after one failed or was interrupted
_MAX_TRACEBACK = 20_000  # characters of a traceback
_SAFE_PATH = "PYTHONSAFEPATH"
SAFE_PATH = {_SAFE_PATH: "1"}  # a new interpreter does not put the working folder before what is installed
SIGNAL_EXIT_OFFSET = 128  # shells add it to the number of the signal that ended a process
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
        pipe_closed: Nothing more comes through the pipe.
    """

    rank: int
    process: BaseProcess
    pipe: Connection
    error: BaseException | None = None
    code: int | None = None
    pipe_closed: bool = False

    @property
    def is_cause(self) -> bool:
        """Whether it failed by itself, not only because another process was gone."""
        if self.error is None:
            return self.code not in (0, None)
        message = str(self.error).lower()
        return not (isinstance(self.error, RuntimeError) and any(part in message for part in _CONNECTION_ERRORS))

    def poll_end(self) -> None:
        """Receive the error that it sent, if any, and its exit code once it has ended."""
        ended = not self.process.is_alive()  # first: what it sends, it sends before it ends
        try:
            if self.error is None and self.pipe.poll():
                self.error = self._receive_error()
        except (EOFError, OSError):
            self.pipe_closed = True
        if ended:
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

    def start(
        self, rank: int, context: BaseContext, target: Callable[..., object], *args: object, daemon: bool = False
    ) -> Child:
        """Start a child process; see ``start``."""
        child = Child(rank, *start(context, target, *args, daemon=daemon))
        self._children.append(child)
        return child

    @property
    def running(self) -> list[Child]:
        """Those that have not ended, as far as ``poll`` has seen."""
        return [child for child in self._children if child.code is None]

    @property
    def failed(self) -> list[Child]:
        """Those that sent an error or ended with another exit code than 0, the cause first."""
        failed = [child for child in self._children if child.error is not None or child.code]
        return sorted(failed, key=lambda child: not child.is_cause)

    def poll(self, timeout: float | None) -> bool:
        """Wait until one of the running ones sends an error or ends; return False after
        ``timeout``.
        """
        running = self.running
        pipes = [child.pipe for child in running if child.error is None and not child.pipe_closed]
        sources: list[Connection | int] = [*pipes, *(child.process.sentinel for child in running)]
        ready = wait(sources, timeout)
        for child in running:
            child.poll_end()
        return bool(ready)

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
                send_signal(child.process, signal.SIGINT)
            self._until_ended(time.monotonic() + _EXIT_SECONDS)
            raise
        if failed := self.failed + self.running:
            raise failed[0].exception()

    def _until_ended(self, deadline: float | None) -> None:
        while self.running:
            if deadline is None and self.failed:
                deadline = time.monotonic() + _EXIT_SECONDS
            if not self.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
                return


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started inside the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start(
    context: Any,
    target: Callable[..., object],
    *args: object,
    daemon: bool = False,
    stderr: Connection | None = None,
) -> tuple[BaseProcess, Connection]:
    """Start a process that calls ``target(pipe, *args)``, and return it with our end of the pipe.

    The pipe ends when the process does. A new interpreter does not look for modules in the working
    folder before it has this one's path. What the child prints is without the secrets that this
    process knows.

    Args:
        context: Of multiprocessing: how to start it.
        target: What it calls; a function of a module that it can import, unless it is forked.
        args: Sent to it.
        daemon: Python terminates it when this process exits, and lets it start none itself.
        stderr: What it writes its standard error to; None: what this process has.
    """
    ours, theirs = context.Pipe()
    before = os.environ.get(_SAFE_PATH, "")
    process = context.Process(
        target=_call, args=(before, secrets.known(), stderr, target, theirs, *args), daemon=daemon
    )
    with environment(SAFE_PATH):
        process.start()
    theirs.close()
    return process, ours


def _call(
    safe_path: str,
    known: Sequence[tuple[str, str]],
    stderr: Connection | None,
    target: Callable[..., object],
    *args: object,
) -> None:
    os.environ[_SAFE_PATH] = safe_path  # for processes that the user's code starts
    if stderr is not None:
        os.dup2(stderr.fileno(), 2)
        stderr.close()
    prepare_output()
    secrets.remember(known)
    target(*args)


def send_signal(process: BaseProcess, number: signal.Signals) -> None:
    """Send a signal to a child process, if it is alive."""
    if process.pid is None or not process.is_alive():
        return
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def signal_group(process: BaseProcess | subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process group that a child process leads, also after its own end."""
    if process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(OSError):  # the group is empty, or does not exist yet
            os.killpg(process.pid, number)


def kill_group(process: BaseProcess | subprocess.Popen[bytes]) -> None:
    """Kill a child process and the process group that it leads."""
    if hasattr(signal, "SIGKILL"):
        signal_group(process, signal.SIGKILL)
    process.kill()


@contextmanager
def send_errors(pipe: Connection) -> Iterator[None]:
    """In a child process: send what is raised inside the context to the parent, and exit.

    With 1, or as a shell would after the signal by which it was interrupted.

    Args:
        pipe: The child's end of its pipe to the parent.
    """
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
        if isinstance(error, KeyboardInterrupt):
            sys.exit(SIGNAL_EXIT_OFFSET + int(getattr(error, "number", signal.SIGINT)))
        sys.exit(1)

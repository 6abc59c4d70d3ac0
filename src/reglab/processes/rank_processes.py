"""Start ranks 1 to n-1 of a job on this machine, watch them, and end them with rank 0."""

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from reglab.processes.child_processes import SIGNAL_EXIT_OFFSET, Child, ChildProcesses, environment, send_errors
from reglab.processes.parent_watch import exit_with_parent

_SIGKILL = 9  # Windows has no such name
_EXIT_SECONDS = 10.0  # for the other ranks after rank 0 succeeded


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the environment variables of one rank on this machine, as torchrun sets them.

    Lightning starts no processes where it finds them. Set them before torch or Lightning is
    imported.

    Args:
        rank: The rank.
        ranks: The world size.
        port: On which rank 0 listens for the others.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": f"reglab-{port}",
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # rank 0 opens the port itself
    }


def free_port() -> int:
    """Return a port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class RankFailure:
    """How a rank other than 0 failed.

    Attributes:
        rank: The rank.
        code: Its exit code, below 0 for a signal.
        message: What it raised; empty if it sent nothing.
    """

    rank: int
    code: int
    message: str = ""


def exit_like(failure: RankFailure) -> None:
    """Exit at once with the failed rank's exit code or signal, for the parent to see."""
    if failure.code == -_SIGKILL:
        os.kill(os.getpid(), _SIGKILL)
    os._exit(SIGNAL_EXIT_OFFSET - failure.code if failure.code < 0 else failure.code)


class RankProcesses:
    """Ranks 1 to ``ranks - 1`` of the job whose rank 0 is this process, running inside the context.

    Each calls ``target(rank, *args)`` in a spawned process. They end when this process does.

    Args:
        ranks: The world size.
        port: On which rank 0 listens for the others.
        target: What each rank calls; KeyboardInterrupt from it means that it was asked to end.
        args: Further arguments of ``target``.

    Attributes:
        on_failure: Called once, in a thread, with the first failure: other ranks may hang after it.
        first_failure: The first failure; None while there is none.
    """

    def __init__(self, ranks: int, port: int, target: Callable[..., object], args: tuple[object, ...] = ()):
        self._ranks, self._port, self._target, self._args = ranks, port, target, args
        self._children = ChildProcesses()
        self._all_ended, self._stopping = threading.Event(), threading.Event()
        self.on_failure: Callable[[RankFailure], None] = exit_like
        self.first_failure: RankFailure | None = None

    def __enter__(self) -> "RankProcesses":
        context = multiprocessing.get_context("spawn")
        for rank in range(1, self._ranks):
            with environment(rank_environment(rank, self._ranks, self._port)):
                self._children.start(rank, context, _run, rank, self._target, self._args)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Kill the ranks that still run; where rank 0 succeeded, wait a few seconds first."""
        self.wait(0 if error_type else _EXIT_SECONDS)
        self._stopping.set()
        self._children.__exit__()

    def wait(self, seconds: float) -> None:
        """Wait until all ranks have ended or one has failed, for at most ``seconds``."""
        self._all_ended.wait(seconds)

    def _watch(self) -> None:
        with suppress(OSError):  # the pipes were closed
            while self._children.running and not self._stopping.is_set():
                self._children.poll(None)
                ended = [child for child in self._children.failed if child.code]
                if ended and not self._stopping.is_set() and self.first_failure is None:
                    self.first_failure = _failure(ended[0])
                    self._all_ended.set()
                    self.on_failure(self.first_failure)
        self._all_ended.set()


def _failure(child: Child) -> RankFailure:
    told = child.error is not None and not isinstance(child.error, KeyboardInterrupt)
    return RankFailure(child.rank, child.code or 0, (str(child.error) or type(child.error).__name__) if told else "")


def _run(pipe: Connection, rank: int, target: Callable[..., object], args: tuple[object, ...]) -> None:
    exit_with_parent(grace=0, terminate=False)  # it may hang in a collective
    with send_errors(pipe):
        target(rank, *args)

"""The processes of one job on several devices of this machine: what tells each its rank, and who ends them all."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

_SHELL = 128  # a process that a signal ended has this exit code plus the signal's number, as shells have it
_SIGKILL = 9  # Windows has no such name
_SECONDS_TO_END = 10.0  # that further ranks have where rank 0 ended well


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the variables of a process that is one of ``ranks`` on this machine, as torchrun would set them.

    Lightning starts no processes where it finds them. To be set before torch or Lightning is imported. port: of rank 0,
    where the others meet it.
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


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside the context."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Death:
    """A further rank that did not end well. code: its exit code, below 0 for a signal. message: what it raised."""

    rank: int
    code: int
    message: str = ""


def die_alike(death: Death) -> None:
    """End this process at once, by what ended one of its ranks, so that whoever started it sees that cause."""
    if death.code == -_SIGKILL:
        os.kill(os.getpid(), _SIGKILL)
    os._exit(_SHELL - death.code if death.code < 0 else death.code)


class Ranks:
    """Ranks 1 to ``ranks - 1`` of the job whose rank 0 is this process; they live inside the context at most.

    Each calls ``target(rank, *args)`` in a fresh process (started by spawn). What it raises is its end; as
    KeyboardInterrupt, it was asked to end. They end when this process does, whatever ended it.

    died: an attribute, called once, in a thread, with the first that did not end well: others may wait for it for ever.
    """

    def __init__(self, ranks: int, port: int, target: Callable[..., object], args: tuple[object, ...] = ()):
        self._ranks, self._port, self._target, self._args = ranks, port, target, args
        self._processes: dict[int, tuple[SpawnProcess, Connection]] = {}
        self._over, self._closing = threading.Event(), threading.Event()
        self.died: Callable[[Death], None] = die_alike
        self.first: Death | None = None

    def __enter__(self) -> "Ranks":
        context = multiprocessing.get_context("spawn")
        for rank in range(1, self._ranks):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(theirs, rank, self._target, self._args))
            with environment(rank_environment(rank, self._ranks, self._port)):
                process.start()
            theirs.close()
            self._processes[rank] = (process, ours)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Kill those that have not ended; after a good end they have a few seconds for theirs."""
        self.wait(0 if kind else _SECONDS_TO_END)
        self._closing.set()
        for process, pipe in self._processes.values():
            process.kill()
            process.join()
            pipe.close()

    def wait(self, seconds: float) -> None:
        """Wait at most so long for all of them to end, or for one to die."""
        self._over.wait(seconds)

    def _watch(self) -> None:
        left = dict(self._processes)
        while left and not self._closing.is_set():
            ended = wait([process.sentinel for process, _ in left.values()])
            for rank in [rank for rank, (process, _) in left.items() if process.sentinel in ended]:
                death = _death(rank, *left.pop(rank))
                if death and not self._closing.is_set() and self.first is None:
                    self.first = death
                    self._over.set()
                    self.died(death)
        self._over.set()


def _death(rank: int, process: SpawnProcess, pipe: Connection) -> Death | None:
    while (code := process.exitcode) is None:  # it has ended; the main thread may just be about to note its code
        time.sleep(0.01)
    if code == 0:
        return None
    try:
        return Death(rank, code, pipe.recv())
    except (EOFError, OSError):
        return Death(rank, code)


def _run(pipe: Connection, rank: int, target: Callable[..., object], args: tuple[object, ...]) -> None:
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    try:
        target(rank, *args)
    except KeyboardInterrupt as interrupt:
        sys.exit(_SHELL + int(getattr(interrupt, "number", signal.SIGINT)))
    except Exception as error:  # noqa: BLE001 - told by rank 0
        pipe.send(str(error) or type(error).__name__)
        sys.exit(1)


def _end_with_rank_0() -> None:
    """End this process when rank 0 is gone: it may hang in a collective, and has nothing to save without it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

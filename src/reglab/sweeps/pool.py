"""Worker processes that run jobs, one each at a time; the death of one costs its job, not the sweep."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from reglab.sweeps.compose import Order
from reglab.sweeps.events import Ended, Event, Started, Status

_TICK = 0.25  # seconds without news after which the display is asked to redraw
_GRACE = 20.0  # seconds that an interrupted job may take to record its end

Spawn = Callable[[], tuple[BaseProcess, Connection]]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    order: Order | None = None


class Pool:
    """Runs orders on up to ``size`` worker processes that ``spawn`` starts.

    tell: called in this process with every event. tick: called a few times a second.
    """

    def __init__(self, spawn: Spawn, size: int, tell: Callable[[Event], None], tick: Callable[[], None]):
        self._spawn, self._size, self._tell, self._tick = spawn, size, tell, tick
        self._workers: list[_Worker] = []
        self._waiting: deque[Order] = deque()
        self._ends: dict[int, Ended] = {}
        self.interrupted = False

    def run(self, orders: Iterable[Order]) -> dict[int, Ended]:
        """Run all orders and return how each ended. On KeyboardInterrupt those not started have no end."""
        self._waiting.extend(orders)
        try:
            self._loop()
        except KeyboardInterrupt:
            self._interrupt()
        finally:
            self._close()
        return self._ends

    def _loop(self) -> None:
        while self._waiting or self._busy():
            self._hand_out()
            self._listen()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.order is not None]

    def _hand_out(self) -> None:
        while self._waiting and len(self._busy()) < self._size:
            worker = next((worker for worker in self._workers if worker.order is None), None)
            if worker is None:
                worker = _Worker(*self._spawn())
                self._workers.append(worker)
            worker.order = self._waiting.popleft()
            self._tell(Started(worker.order.job))
            with contextlib.suppress(OSError):  # it died while idle: listening finds that out
                worker.pipe.send(worker.order)

    def _listen(self) -> None:
        sources: Sequence[Connection | int] = [
            source for worker in self._workers for source in (worker.pipe, worker.process.sentinel)
        ]
        ready = wait(sources, timeout=_TICK)
        for worker in list(self._workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                self._hear(worker)
        self._tick()

    def _hear(self, worker: _Worker) -> None:
        try:
            while worker.pipe.poll():
                event = worker.pipe.recv()
                if isinstance(event, Ended):
                    worker.order = None
                    self._end(event)
                else:
                    self._tell(event)
        except (EOFError, OSError):  # the other end is closed: the process is dying
            worker.process.join(timeout=5)
        if not worker.process.is_alive():
            self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        if worker.order is not None:
            status: Status = "KILLED" if self.interrupted else "FAILED"
            self._end(Ended(worker.order.job, status, why_dead(worker.process.exitcode), alone=True))

    def _end(self, end: Ended) -> None:
        self._ends[end.job] = end
        self._tell(end)

    def _interrupt(self) -> None:
        """Ask the running jobs to end and wait for them; a second interrupt kills them."""
        self.interrupted = True
        self._waiting.clear()
        deadline = time.monotonic() + _GRACE
        with contextlib.suppress(KeyboardInterrupt):
            while self._busy() and time.monotonic() < deadline:
                for worker in self._workers:  # again and again: one that is just starting cannot hear yet
                    _signal(worker.process, signal.SIGINT)
                self._listen()
        for worker in self._busy():
            worker.process.kill()
            if worker.order is not None:
                self._end(Ended(worker.order.job, "KILLED", "it did not end when asked to", alone=True))

    def _close(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def why_dead(code: int | None) -> str:
    """Return in words why a worker process ended with this exit code in the middle of a job."""
    if code is None or code >= 0:
        return f"its worker process ended with exit code {code}; look above for what it printed"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return (
            "its worker process was killed (SIGKILL), most often by the system because memory ran out: "
            "lower hydra.launcher.workers or data.batch_size"
        )
    return f"its worker process died of {name}"


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is None or not process.is_alive():
        return
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

"""Worker processes that run orders, one each at a time; the death of one costs its jobs, not the sweep."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from reglab.sweeps.compose import Order
from reglab.sweeps.events import Apart, Done, Ended, Event, Packed, Started, Status
from reglab.sweeps.packing import even

_TICK = 0.25  # seconds without news after which the display is asked to redraw
_GRACE = 20.0  # seconds that an interrupted job may take to record its end
_OUT_OF_MEMORY = "its worker process was killed (SIGKILL), most often by the system because memory ran out"

_SIGKILL = 9  # Windows has no such name

Spawn = Callable[[], tuple[BaseProcess, Connection]]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    order: Order | None = None
    open: list[int] = field(default_factory=list)  # jobs of the order that have not ended


class Pool:
    """Runs orders on up to ``size`` worker processes that ``spawn`` starts, earlier ones first, each in its turn.

    tell: called in this process with every event. tick: called a few times a second. left: called with the jobs that a
    dead worker leaves and that are to run again, before they do.
    """

    def __init__(
        self,
        spawn: Spawn,
        size: int,
        tell: Callable[[Event], None],
        tick: Callable[[], None],
        left: Callable[[Order, str], None],
    ):
        self._spawn, self._size, self._tell, self._tick, self._left = spawn, size, tell, tick, left
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
        while len(self._busy()) < self._size and (order := self._next()) is not None:
            worker = next((worker for worker in self._workers if worker.order is None), None)
            if worker is None:
                worker = _Worker(*self._spawn())
                self._workers.append(worker)
            worker.order = order
            worker.open = list(order.jobs)
            for job in order.jobs:
                self._tell(Started(job))
            if len(order.jobs) > 1:
                self._tell(Packed(order.jobs))
            with contextlib.suppress(OSError):  # it died while idle: listening finds that out
                worker.pipe.send(order)

    def _next(self) -> Order | None:
        """Take the first waiting order whose turn it is, if it is that of any."""
        ready = (order for order in self._waiting if self._ends.keys() >= set(order.after))
        # Where nothing runs, nothing will end: waiting on would be for ever.
        order = next(ready, None if self._busy() or not self._waiting else self._waiting[0])
        if order is not None:
            self._waiting.remove(order)
        return order

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
                self._take(worker, worker.pipe.recv())
        except (EOFError, OSError):  # the other end is closed: the process is dying
            worker.process.join(timeout=5)
        if not worker.process.is_alive():
            self._bury(worker)

    def _take(self, worker: _Worker, event: Event | Done) -> None:
        if isinstance(event, Done):
            worker.order, worker.open = None, []
        elif isinstance(event, Ended):
            worker.open.remove(event.job)
            self._end(event)
        elif isinstance(event, Apart):
            worker.open = []
            self._again(worker.order, event)
        else:
            self._tell(event)

    def _again(self, order: Order | None, apart: Apart) -> None:
        """Queue the groups of a pack that came apart, the largest orders first as ever."""
        if order is None or self.interrupted:
            return
        self._tell(apart)
        self._waiting.extend(order.part(group) for group in apart.groups)
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: -len(waiting.jobs)))

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        killed = worker.process.exitcode == -_SIGKILL and not self.interrupted
        if worker.order is not None and len(worker.order.jobs) > 1 and worker.open and killed:
            halves = even(worker.open, min(2, len(worker.open)))
            self._left(worker.order.part(worker.open), _OUT_OF_MEMORY)
            self._size = max(1, self._size - 1)  # two halves side by side would need the same memory again
            self._again(worker.order, Apart(tuple(halves), _OUT_OF_MEMORY))
            return
        status: Status = "KILLED" if self.interrupted else "FAILED"
        for job in worker.open:
            self._end(Ended(job, status, why_dead(worker.process.exitcode), alone=True))

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
            for job in worker.open:
                self._end(Ended(job, "KILLED", "it did not end when asked to", alone=True))

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
        return f"{_OUT_OF_MEMORY}: lower hydra.launcher.workers or data.batch_size"
    return f"its worker process died of {name}"


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is None or not process.is_alive():
        return
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

"""Worker processes that run orders, one each at a time; the death of one costs its jobs, not the sweep."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from reglab.analysis.formatting import plural
from reglab.core.signals import Interrupted
from reglab.launchers.compose import Order
from reglab.launchers.events import Again, Apart, Done, Ended, Event, Packed, Started
from reglab.launchers.exit_causes import ASKED, KILLED, OUT_OF_MEMORY, SIGKILL, Breach, Refused, was_asked, why_dead
from reglab.launchers.packing import even
from reglab.launchers.retries import Attempts
from reglab.launchers.worker_handle import Rules, Worker, ask, end_group

_TICK = 0.25  # seconds without news after which the display is asked to redraw
_GRACE = 20.0  # seconds that a job which was asked to end may take to record that, and a process to leave

Spawn = Callable[[Order, int], tuple[BaseProcess, Connection]]


class Pool:
    """Runs orders on up to ``size`` worker processes that ``spawn`` starts, earlier ones first, each in its turn.

    ``spawn`` is given the first order of a worker, and its place: a number below ``size`` that no other has.

    An order whose worker was killed, or asked to end, is handed out again as long as it gets on. Otherwise a job has
    failed, and a pack is cut in halves that begin anew, until the job that is to blame is alone.

    tell: called in this process with every event. tick: called a few times a second. left: called with an order that is
    cut, its jobs that have not ended, and the reason, before these begin anew. reached: how far the checkpoint of an
    order is, a number that grows. recorded: how a job's own record says that it ended, None where it does not.
    """

    def __init__(
        self,
        spawn: Spawn,
        size: int,
        tell: Callable[[Event], None],
        tick: Callable[[], None],
        left: Callable[[Order, Sequence[int], str], None],
        reached: Callable[[Order], int] = lambda _: 0,
        recorded: Callable[[Order, int], Ended | None] = lambda order, job: None,
        rules: Rules | None = None,
    ):
        self._rules = rules or Rules()
        self._attempts, self._recorded = Attempts(reached, self._rules.retries), recorded
        self._spawn, self._size, self._tell, self._tick, self._left = spawn, size, tell, tick, left
        self._workers: list[Worker] = []
        self._waiting: deque[Order] = deque()
        self._ends: dict[int, Ended] = {}
        self._cut: dict[int, Ended] = {}  # how jobs end that wait to go on, if the sweep is interrupted before they do
        self._watched = 0.0
        self.interrupted: int | None = None  # the number of the signal

    def run(self, orders: Iterable[Order]) -> dict[int, Ended]:
        """Run all orders and return how each ended. On KeyboardInterrupt those not started have no end."""
        self._waiting.extend(orders)
        try:
            self._loop()
        except KeyboardInterrupt as interrupt:
            self._interrupt(interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)
        finally:
            self._close()
        return self._ends

    def _loop(self) -> None:
        while self._waiting or self._busy():
            self._hand_out()
            self._listen()

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.order is not None]

    def _taken(self) -> list[Worker]:
        """Return the workers whose places are taken: where each runs one order, one that is still ending is too."""
        return self._workers if self._rules.once else self._busy()

    def _hand_out(self) -> None:
        while len(self._taken()) < self._size and (order := self._next()) is not None:
            worker = next((worker for worker in self._workers if worker.order is None and not worker.leaving), None)
            if worker is None:
                used = {worker.place for worker in self._taken()}
                place = next(place for place in range(self._size) if place not in used)
                worker = Worker(*self._spawn(order, place), place, time.monotonic())
                self._workers.append(worker)
            worker.order = order
            worker.open = [job for job in order.jobs if job not in self._ends]
            worker.before = {job for job in worker.open if self._recorded(order, job)}
            for job in worker.open:
                self._cut.pop(job, None)
                self._tell(Started(job))
            if len(worker.open) > 1:
                self._tell(Packed(tuple(worker.open)))
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
            source
            for worker in self._workers
            for source in ((worker.process.sentinel,) if worker.mute else (worker.pipe, worker.process.sentinel))
        ]
        ready = wait(sources, timeout=_TICK)
        for worker in list(self._workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                self._hear(worker)
        if not self.interrupted:
            self._watch()
        self._tick()

    def _watch(self) -> None:
        """End workers that are beyond a limit, at most a few times a second: memory is asked of the system."""
        now = time.monotonic()
        if now - self._watched < _TICK:
            return
        self._watched = now
        for worker in self._workers:
            pid = worker.process.pid
            if worker.deadline is not None and now > worker.deadline:
                end_group(worker.process)
            elif worker.deadline is None and worker.order is not None and pid is not None:
                worker.breach = self._rules.limits.breach(pid, now - worker.began)
                if worker.breach is not None:
                    worker.deadline = now + _GRACE
                    if worker.breach.heavy:
                        end_group(worker.process)
                    else:
                        ask(worker.process, signal.SIGTERM)

    def _hear(self, worker: Worker) -> None:
        try:
            while not worker.mute and worker.pipe.poll():
                self._take(worker, worker.pipe.recv())
        except (EOFError, OSError):  # the other end is closed: the process is dying
            worker.mute = True
            if worker.order is not None:
                worker.process.join(timeout=5)
        if not worker.process.is_alive():
            self._bury(worker)

    def _take(self, worker: Worker, event: Event | Done) -> None:
        if isinstance(event, Done):
            self._part(worker)
        elif isinstance(event, Ended):
            self._hear_end(worker, event)
        elif isinstance(event, Apart):
            worker.open = []
            self._apart(worker.order, event)
        else:
            self._tell(event)

    def _hear_end(self, worker: Worker, end: Ended) -> None:
        if end.job not in worker.open:
            return  # a pack that goes on tells again of those that had ended
        if end.status == "KILLED" and not self.interrupted:
            worker.killed[end.job] = end
            return
        worker.open.remove(end.job)
        self._end(end)
        if self._rules.strict and isinstance(end, Refused):
            self._stop(end)

    def _stop(self, refused: Ended) -> None:
        """Begin nothing more; what had begun, and only waits to go on, does."""
        begun = [order for order in self._waiting if not self._cut.keys().isdisjoint(order.jobs)]
        reason = f"not started: the configuration of job {refused.job} was refused"
        for order in self._waiting:
            if order not in begun:
                self._ends.update((job, Ended(job, "KILLED", reason)) for job in order.jobs if job not in self._ends)
        self._waiting = deque(begun)

    def _part(self, worker: Worker) -> None:
        """Take back the order of a worker that is through with it, to hand it out again if it was asked to end."""
        order, killed = worker.order, worker.killed
        worker.order, worker.open, worker.killed = None, [], {}
        if self._rules.once:
            worker.leaving, worker.deadline = True, time.monotonic() + _GRACE
        if order is None or not killed:
            return
        worker.leaving = True
        if worker.breach is not None:
            self._end_for(worker.breach, killed)
            return
        if not self.interrupted and self._attempts.allow(order, preempted=True):
            self._go_on(order, killed, ASKED)
            return
        self._end_all(killed)

    def _go_on(self, order: Order, cut: Mapping[int, Ended], reason: str) -> None:
        """Hand an order out again, as the next one. cut: how its jobs end if that does not come about."""
        self._cut.update(cut)
        self._tell(Again(tuple(cut), f"{reason}: {plural(len(cut), 'job')} {'goes' if len(cut) == 1 else 'go'} on"))
        self._waiting.appendleft(order)

    def _apart(self, order: Order | None, apart: Apart) -> None:
        """Queue the groups of a pack that came apart, the largest orders first as ever."""
        if order is None or self.interrupted:
            return
        self._tell(apart)
        self._waiting.extend(order.part(group) for group in apart.groups)
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: -len(waiting.jobs)))

    def _bury(self, worker: Worker) -> None:
        self._workers.remove(worker)
        end_group(worker.process)  # what it leaves behind
        worker.pipe.close()
        self._hear_records(worker)
        code, order, left = worker.process.exitcode, worker.order, list(worker.open)
        if order is None or not left:
            return
        cut = {job: Ended(job, "KILLED" if self.interrupted else "FAILED", why_dead(code), alone=True) for job in left}
        if self.interrupted:
            self._end_all(cut)
        elif worker.breach is not None and not (worker.breach.heavy and len(order.jobs) > 1):
            self._end_for(worker.breach, left)
        elif worker.breach is None and (worker.killed or was_asked(code)):
            worker.killed |= {job: Ended(job, "KILLED", ASKED, alone=True) for job in left if job not in worker.killed}
            self._part(worker)
        else:
            self._lost(order, cut, worker.breach, killed=code == -SIGKILL)

    def _lost(self, order: Order, cut: Mapping[int, Ended], breach: Breach | None, killed: bool) -> None:
        """Hand out what a dead worker left: once more, or a pack in halves, until the job to blame is alone."""
        if breach is None and killed and self._attempts.allow(order, preempted=False):
            self._go_on(order, cut, KILLED)
        elif len(order.jobs) > 1:
            left = list(cut)
            reason = breach.reason if breach else OUT_OF_MEMORY if killed else cut[left[0]].message
            self._left(order, left, reason)
            if killed and breach is None:
                self._size = max(1, self._size - 1)  # two halves side by side would need the same memory again
            self._apart(order, Apart(tuple(even(left, min(2, len(left)))), reason))
        else:
            self._end_all(cut)

    def _hear_records(self, worker: Worker) -> None:
        """End the jobs that a dead worker had ended and recorded, but not told of."""
        for job in [job for job in worker.open if job not in worker.before]:
            end = self._recorded(worker.order, job) if worker.order else None
            if end is not None:
                worker.open.remove(job)
                worker.killed.pop(job, None)
                self._end(end)

    def _end_all(self, ends: Mapping[int, Ended]) -> None:
        for end in ends.values():
            self._end(end)

    def _end_for(self, breach: Breach, jobs: Collection[int]) -> None:
        self._end_all({job: Ended(job, "FAILED", breach.reason, alone=True) for job in jobs})

    def _end(self, end: Ended) -> None:
        self._ends[end.job] = end
        self._tell(end)

    def _interrupt(self, number: int) -> None:
        """Ask the running jobs to end and wait for them; a second interrupt kills them."""
        self.interrupted = number
        self._waiting.clear()
        for end in list(self._cut.values()):
            self._end(replace(end, status="KILLED"))
        deadline = time.monotonic() + _GRACE
        with contextlib.suppress(KeyboardInterrupt):
            while self._busy() and time.monotonic() < deadline:
                for worker in self._workers:  # again and again: one that is just starting cannot hear yet
                    ask(worker.process, signal.SIGINT)
                self._listen()
        for worker in self._busy():
            end_group(worker.process)
            for job in worker.open:
                self._end(Ended(job, "KILLED", "it did not end when asked to", alone=True))

    def _close(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers:
            worker.process.join(timeout=5)
            end_group(worker.process)
            worker.process.join()
            worker.pipe.close()

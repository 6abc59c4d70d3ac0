"""The process of one order: it trains as rank 0, and starts the further ranks of a job on several devices."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from multiprocessing.connection import Connection

from omegaconf import DictConfig

from reglab.core import secrets, signals
from reglab.core.errors import UserError
from reglab.launchers.compose import Order
from reglab.launchers.events import Advanced, Done, Ended, Event
from reglab.launchers.exit_causes import Refused
from reglab.launchers.run_order import Send, run_order
from reglab.launchers.worker import end_with_parent, prepared
from reglab.processes.rank_processes import RankFailure, RankProcesses, exit_like

_ASKED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM))


def run_slot(pipe: Connection, pickled: bytes, ranks: int, port: int, patience: float) -> None:
    """Run the one order that comes through ``pipe``. pickled: an ``Assignment``. port: where its ranks meet.

    patience: seconds in which all ranks should have ended when one did so by itself.
    """
    _own_session()
    with signals.listening(patient=True):  # the sweep asks again and again
        end_with_parent()
        try:
            hear_interrupts()
            order = pipe.recv()
            if ranks == 1:
                _Talk(pipe).run(order, pickled)
                return
            with RankProcesses(ranks, port, _run_rank, (pickled, order)) as others:
                talk = _Talk(pipe, others, patience)
                others.on_failure = lambda failure: talk.lose(order, failure)
                talk.run(order, pickled)
        except (KeyboardInterrupt, EOFError, BrokenPipeError):
            return  # interrupted before its job began, or the sweep is gone


def _own_session() -> None:
    """Leave the sweep's group: Ctrl-C goes to the sweep alone, and what is left of this one can be killed as one."""
    secrets.hide_output()
    if hasattr(os, "setsid"):
        os.setsid()


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep back a Ctrl-C that comes inside: it is heard afterwards, by a process started inside when it listens."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_interrupts() -> None:
    """Hear what was held back when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


class _Talk:
    """What the process tells the sweep through its pipe; also its watcher of ranks, in a thread of its own."""

    def __init__(self, pipe: Connection, others: RankProcesses | None = None, patience: float = 0.0):
        self._pipe, self._others, self._patience = pipe, others, patience
        self._lock, self._through = threading.Lock(), threading.Event()
        self._trained = self._refused = False

    def run(self, order: Order, pickled: bytes) -> None:
        """Run the order and tell what comes of it."""
        assignment, composer = prepared(pickled)
        watched = replace(assignment, task=self._watched(assignment.task))
        run_order(order, watched, composer, self._tell)
        with self._lock:
            self._through.set()
            self._pipe.send(Done())

    def _watched(self, task: Callable[[DictConfig], object]) -> Callable[[DictConfig], object]:
        def run(config: DictConfig) -> object:
            try:
                return task(config)
            except UserError:
                self._refused = not self._trained
                raise

        return run

    def _tell(self, event: Event) -> None:
        self._trained |= isinstance(event, Advanced)
        if isinstance(event, Ended) and event.status == "FAILED":
            event = self._explained(event)
        with self._lock:
            self._pipe.send(event)

    def _explained(self, end: Ended) -> Ended:
        """Return a failure with what another rank says of it; where one was killed, this process ends here, too."""
        if self._refused:
            return Refused(**{field.name: getattr(end, field.name) for field in fields(Ended)})
        if self._others is None:
            return end
        self._others.wait(min(self._patience, 5.0))
        first = self._others.first_failure
        if first is None or not first.message or first.message == end.message:
            return end
        return replace(end, message=f"{end.message} (rank {first.rank}: {first.message})")

    def lose(self, order: Order, failure: RankFailure) -> None:
        """End this process, which may wait for ever for a rank that died, unless it ends by itself as that one did."""
        if failure.message or failure.code in _ASKED:
            if self._through.wait(self._patience):
                return
            with self._lock:
                if failure.message:
                    for job in order.jobs:
                        self._pipe.send(Ended(job, "FAILED", f"rank {failure.rank}: {failure.message}", alone=True))
                    self._pipe.send(Done())
                    os._exit(1)
        exit_like(failure)


def _run_rank(rank: int, pickled: bytes, order: Order) -> None:
    """Run the order as a further rank, silently. Raises what ends it before its time."""
    secrets.hide_output()
    ends: list[Event] = []
    with signals.listening(patient=True):
        assignment, composer = prepared(pickled)
        run_order(order, assignment, composer, _keeper(ends))
    for end in ends:
        if isinstance(end, Ended) and end.status == "FAILED":
            raise RuntimeError(end.message)
        if isinstance(end, Ended) and end.status == "KILLED":
            raise signals.Interrupted(signals.asked() or signal.SIGTERM)


def _keeper(ends: list[Event]) -> Send:
    return lambda event: ends.append(event) if isinstance(event, Ended) else None

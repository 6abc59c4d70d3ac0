"""Entry point of a job's process: train as rank 0, start the other ranks, report events."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from multiprocessing.connection import Connection

from omegaconf import DictConfig

from reglab.core import signals
from reglab.core.errors import UserError
from reglab.launchers.compose import JobGroup
from reglab.launchers.events import Ended, EpochEnded, Event, Idle
from reglab.launchers.exit_causes import ConfigRefused
from reglab.launchers.run_group import Send, run_group
from reglab.launchers.worker import EXIT_SECONDS, exit_if_interrupted, next_group, prepare
from reglab.processes.parent_watch import exit_with_parent
from reglab.processes.rank_processes import RankFailure, RankProcesses, exit_like

_INTERRUPTED_CODES = tuple(128 + number for number in signals.HANDLED)


def run_rank_zero(pipe: Connection, pickled: bytes, ranks: int, port: int, exit_seconds: float) -> None:
    """Run the one group that comes through ``pipe``.

    Args:
        pipe: To the sweep's process.
        pickled: An ``Assignment``.
        ranks: The world size.
        port: On which rank 0 listens for the others.
        exit_seconds: In which all ranks should have ended after one did.
    """
    _start_session()
    with signals.handle_signals(ignore_repeats=True):  # the sweep repeats its signals
        exit_with_parent(EXIT_SECONDS)
        try:
            signals.unblock()
            if (group := next_group(pipe)) is not None:
                _run(pipe, group, pickled, ranks, port, exit_seconds)
        except signals.Interrupted:  # before its job began
            pass
        exit_if_interrupted()


def _run(pipe: Connection, group: JobGroup, pickled: bytes, ranks: int, port: int, exit_seconds: float) -> None:
    if ranks == 1:
        _PipeSender(pipe).run(group, pickled)
        return
    with RankProcesses(ranks, port, _run_rank, (pickled, group)) as rank_processes:
        sender = _PipeSender(pipe, rank_processes, exit_seconds)
        rank_processes.on_failure = lambda failure: sender.on_rank_failure(group, failure)
        sender.run(group, pickled)


def _start_session() -> None:
    """Leave the sweep's process group, so that Ctrl-C reaches only the sweep's own process."""
    if hasattr(os, "setsid"):
        os.setsid()


class _PipeSender:
    """Sends events through the pipe to the sweep, and reacts to failures of other ranks."""

    def __init__(self, pipe: Connection, rank_processes: RankProcesses | None = None, exit_seconds: float = 0.0):
        self._pipe, self._ranks, self._exit_seconds = pipe, rank_processes, exit_seconds
        self._lock, self._done = threading.Lock(), threading.Event()
        self._trained = self._refused = False

    def run(self, group: JobGroup, pickled: bytes) -> None:
        """Run the group and send its events."""
        assignment, composer = prepare(pickled)
        noting = replace(assignment, task=self._noting_refusal(assignment.task))
        run_group(group, noting, composer, self._send)
        with self._lock:
            self._done.set()
            with suppress(BrokenPipeError, ConnectionResetError):  # the sweep is gone
                self._pipe.send(Idle())

    def _noting_refusal(self, task: Callable[[DictConfig], object]) -> Callable[[DictConfig], object]:
        def run(config: DictConfig) -> object:
            try:
                return task(config)
            except UserError:
                self._refused = not self._trained
                raise

        return run

    def _send(self, event: Event) -> None:
        self._trained |= isinstance(event, EpochEnded)
        if isinstance(event, Ended) and event.status == "FAILED":
            event = self._with_rank_error(event)
        with self._lock:
            self._pipe.send(event)

    def _with_rank_error(self, end: Ended) -> Ended:
        """Return a failure with the message of another failed rank, or as ``ConfigRefused``."""
        if self._refused:
            return ConfigRefused(**{field.name: getattr(end, field.name) for field in fields(Ended)})
        if self._ranks is None:
            return end
        self._ranks.wait(min(self._exit_seconds, 5.0))
        first = self._ranks.first_failure
        if first is None or not first.message or first.message == end.message:
            return end
        return replace(end, message=f"{end.message} (rank {first.rank}: {first.message})")

    def on_rank_failure(self, group: JobGroup, failure: RankFailure) -> None:
        """End this process, which may hang, if it does not end soon after another rank failed."""
        if failure.message or failure.code in _INTERRUPTED_CODES:
            if self._done.wait(self._exit_seconds):
                return
            with self._lock:
                if failure.message:
                    for job in group.jobs:
                        self._pipe.send(
                            Ended(job, "FAILED", f"rank {failure.rank}: {failure.message}", unrecorded=True)
                        )
                    self._pipe.send(Idle())
                    os._exit(1)
        exit_like(failure)


def _run_rank(rank: int, pickled: bytes, group: JobGroup) -> None:
    """Run the group as a rank above 0, without output. Raises if a job fails or is interrupted."""
    ends: list[Event] = []
    with signals.handle_signals(ignore_repeats=True):
        assignment, composer = prepare(pickled)
        run_group(group, assignment, composer, _collector(ends))
    for end in ends:
        if isinstance(end, Ended) and end.status == "FAILED":
            raise RuntimeError(end.message)
        if isinstance(end, Ended) and end.status == "KILLED":
            raise signals.Interrupted(signals.stop_signal() or signal.SIGTERM)


def _collector(ends: list[Event]) -> Send:
    return lambda event: ends.append(event) if isinstance(event, Ended) else None

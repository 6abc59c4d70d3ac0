"""Pool of worker processes that run groups of jobs; a dead worker's jobs are retried."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Protocol

from reglab.analysis.formatting import plural
from reglab.config.job_request import JobRequest
from reglab.core.describe_error import describe_error
from reglab.core.signals import Interrupted
from reglab.launchers.compose import JobGroup
from reglab.launchers.events import Ended, Event, Idle, Packed, Regrouped, Requeued, Started
from reglab.launchers.exit_causes import (
    ASKED_TO_END,
    KILLED,
    NOT_STARTED,
    OUT_OF_MEMORY,
    SIGKILL,
    ConfigRefused,
    LimitExceeded,
)
from reglab.launchers.packing import split_evenly
from reglab.launchers.retries import Attempts
from reglab.launchers.worker_handle import PoolRules, Spawned, Worker
from reglab.processes.child_processes import kill_group, send_signal

_POLL_SECONDS = 0.25  # between updates of the display
_STARTS = 2  # how often a worker is started for a group
_EXIT_SECONDS = 20.0  # for a job to record that it was interrupted, and for a process to exit

Spawn = Callable[[JobGroup, int], Spawned]


class PoolListener(Protocol):
    """What a pool tells, and asks about the runs of its jobs; called in the pool's process."""

    def on_event(self, event: Event) -> None:
        """Take note of an event."""

    def on_tick(self) -> None:
        """Called a few times a second."""

    def on_split(self, group: JobGroup, jobs: Sequence[int], reason: str) -> None:
        """Called with a group that is halved, before its unfinished jobs start again."""

    def checkpoint_progress(self, group: JobGroup) -> int:
        """Return a number that grows with a group's checkpoint; 0 without one."""

    def recorded_end(self, request: JobRequest) -> Ended | None:
        """Return how a job ended by its run's journal; None if it has not."""


class WorkerPool:
    """Runs groups of jobs on up to ``size`` worker processes, earlier groups first.

    A group whose worker was killed or terminated is requeued while it makes progress. Otherwise its
    job has failed; a pack is halved, again and again, until the faulty job is alone.

    Args:
        spawn: Starts a worker process, given its first group and an index below ``size``.
        size: The number of workers.
        listener: Is told what happens, and knows the runs of the jobs.
        rules: How workers are treated.
    """

    def __init__(self, spawn: Spawn, size: int, listener: PoolListener, rules: PoolRules | None = None):
        self._spawn, self._size, self._listener, self._rules = spawn, size, listener, rules or PoolRules()
        self._attempts = Attempts(listener.checkpoint_progress, self._rules.retries)
        self._workers: list[Worker] = []
        self._waiting: deque[JobGroup] = deque()
        self._ends: dict[int, Ended] = {}
        # How requeued jobs end if the sweep is interrupted before they resume.
        self._requeued_ends: dict[int, Ended] = {}
        self._limits_checked_at = 0.0
        self.interrupted: int | None = None  # the number of the signal

    def run(self, groups: Iterable[JobGroup]) -> dict[int, Ended]:
        """Run all groups and return how each job ended.

        On KeyboardInterrupt, jobs that were not started have no end.
        """
        self._waiting.extend(groups)
        try:
            self._loop()
        except KeyboardInterrupt as interrupt:
            self._interrupt(interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)
        finally:
            self._shut_down()
        return self._ends

    def _loop(self) -> None:
        while self._waiting or self._busy():
            self._hand_out()
            self._wait_for_events()

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.group is not None]

    def _occupied(self) -> list[Worker]:
        """Return the workers that occupy a slot: one-shot workers do until they have ended."""
        return self._workers if self._rules.one_shot else self._busy()

    def _hand_out(self) -> None:
        while len(self._occupied()) < self._size and (group := self._next()) is not None:
            worker = next((worker for worker in self._workers if worker.group is None and not worker.exiting), None)
            if worker is None:
                worker = self._start(group)
            if worker is None:
                continue
            worker.begin(group, [job for job in group.jobs if job not in self._ends])
            worker.already_ended = {end.job for end in self._recorded_ends(group, worker.open_jobs)}
            for job in worker.open_jobs:
                self._requeued_ends.pop(job, None)
                self._listener.on_event(Started(job))
            if len(worker.open_jobs) > 1:
                self._listener.on_event(Packed(tuple(worker.open_jobs)))
            with contextlib.suppress(OSError):  # it died while idle, which is noticed later
                worker.pipe.send(group)

    def _start(self, group: JobGroup) -> Worker | None:
        """Start a worker for a group; one for which none starts, tried twice, has failed."""
        taken_indices = {worker.index for worker in self._occupied()}
        index = next(index for index in range(self._size) if index not in taken_indices)
        for _ in range(_STARTS):
            try:
                worker = Worker(*self._spawn(group, index), index, time.monotonic())
            except (OSError, EOFError) as error:  # EOFError: the fork server died
                reason = f"{NOT_STARTED} ({describe_error(error)}); see the output above"
            else:
                self._workers.append(worker)
                return worker
        self._end_all({job: Ended(job, "FAILED", reason) for job in group.jobs if job not in self._ends})
        return None

    def _next(self) -> JobGroup | None:
        """Take the first waiting group whose dependencies have ended, if there is one."""
        ready = (group for group in self._waiting if self._ends.keys() >= set(group.after))
        # Where nothing runs, nothing will end: waiting would never stop.
        group = next(ready, None if self._busy() or not self._waiting else self._waiting[0])
        if group is not None:
            self._waiting.remove(group)
        return group

    def _wait_for_events(self) -> None:
        sources: Sequence[Connection | int] = [
            source
            for worker in self._workers
            for source in ((worker.process.sentinel,) if worker.pipe_closed else (worker.pipe, worker.process.sentinel))
        ]
        ready = wait(sources, timeout=_POLL_SECONDS)
        for worker in list(self._workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                self._read_pipe(worker)
        if not self.interrupted:
            self._enforce_limits()
        for worker in self._workers:
            worker.show_stderr()
        self._listener.on_tick()

    def _enforce_limits(self) -> None:
        """End workers that exceed a limit; checked a few times a second at most."""
        now = time.monotonic()
        if now - self._limits_checked_at < _POLL_SECONDS:
            return
        self._limits_checked_at = now
        for worker in self._workers:
            pid = worker.process.pid
            if worker.deadline is not None and now > worker.deadline:
                kill_group(worker.process)
            elif worker.deadline is None and worker.group is not None and pid is not None:
                worker.exceeded = self._rules.limits.exceeded(pid, now - worker.started_at)
                if worker.exceeded is not None:
                    worker.deadline = now + _EXIT_SECONDS
                    if worker.exceeded.over_memory:
                        kill_group(worker.process)
                    else:
                        send_signal(worker.process, signal.SIGTERM)

    def _read_pipe(self, worker: Worker) -> None:
        try:
            while not worker.pipe_closed and worker.pipe.poll():
                self._handle(worker, worker.pipe.recv())
        except (EOFError, OSError):  # the process is exiting
            worker.pipe_closed = True
            if worker.group is not None:
                worker.process.join(timeout=5)
        if not worker.process.is_alive():
            self._remove_dead(worker)

    def _handle(self, worker: Worker, event: Event | Idle) -> None:
        if isinstance(event, Idle):
            self._release(worker)
        elif isinstance(event, Ended):
            self._on_ended(worker, event)
        elif isinstance(event, Regrouped):
            worker.open_jobs = []
            self._regroup(worker.group, event)
        else:
            self._listener.on_event(event)

    def _on_ended(self, worker: Worker, end: Ended) -> None:
        if end.job not in worker.open_jobs:
            return  # a pack that resumes repeats the ends of its members
        if end.status == "KILLED" and not self.interrupted:
            worker.killed[end.job] = end
            return
        worker.open_jobs.remove(end.job)
        self._end(end)
        if self._rules.stop_on_refusal and isinstance(end, ConfigRefused):
            self._stop_launching(end)

    def _stop_launching(self, refused: Ended) -> None:
        """Start no more groups, except those that wait to resume."""
        requeued = [group for group in self._waiting if not self._requeued_ends.keys().isdisjoint(group.jobs)]
        reason = f"not started: the configuration of job {refused.job} was refused"
        for group in self._waiting:
            if group not in requeued:
                self._ends.update((job, Ended(job, "KILLED", reason)) for job in group.jobs if job not in self._ends)
        self._waiting = deque(requeued)

    def _release(self, worker: Worker) -> None:
        """Take back the group of a worker that is done with it; requeue it if it was terminated."""
        group, killed = worker.group, worker.killed
        worker.group, worker.open_jobs, worker.killed = None, [], {}
        if self._rules.one_shot:
            worker.exiting, worker.deadline = True, time.monotonic() + _EXIT_SECONDS
        if group is None or not killed:
            return
        worker.exiting = True
        if worker.exceeded is not None:
            self._end_for(worker.exceeded, killed)
            return
        if not self.interrupted and self._attempts.allow(group, preempted=True):
            self._requeue(group, killed, ASKED_TO_END)
            return
        self._end_all(killed)

    def _requeue(self, group: JobGroup, ends: Mapping[int, Ended], reason: str) -> None:
        """Requeue a group as the next one; ``ends``: of its jobs if the sweep is interrupted."""
        self._requeued_ends.update(ends)
        resume = f"{plural(len(ends), 'job')} {'resumes' if len(ends) == 1 else 'resume'}"
        self._listener.on_event(Requeued(tuple(ends), f"{reason}: {resume}"))
        self._waiting.appendleft(group)

    def _regroup(self, group: JobGroup | None, event: Regrouped) -> None:
        """Queue the new groups of a pack that was split, largest first."""
        if group is None or self.interrupted:
            return
        self._listener.on_event(event)
        self._waiting.extend(group.subset(jobs) for jobs in event.groups)
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: -len(waiting.jobs)))

    def _remove_dead(self, worker: Worker) -> None:
        self._workers.remove(worker)
        kill_group(worker.process)  # its child processes
        self._adopt_recorded_ends(worker)
        code, group, unfinished = worker.process.exitcode, worker.group, list(worker.open_jobs)
        cause, asked = worker.cause_of_death(), worker.was_asked_to_end
        worker.close()
        if group is None or not unfinished:
            return
        ends = {
            job: Ended(job, "KILLED" if self.interrupted else "FAILED", cause, unrecorded=True) for job in unfinished
        }
        if self.interrupted:
            self._end_all(ends)
        elif worker.exceeded is not None and not (worker.exceeded.over_memory and len(group.jobs) > 1):
            self._end_for(worker.exceeded, unfinished)
        elif worker.exceeded is None and asked:
            worker.killed |= {
                job: Ended(job, "KILLED", ASKED_TO_END, unrecorded=True)
                for job in unfinished
                if job not in worker.killed
            }
            self._release(worker)
        else:
            self._recover(group, ends, worker.exceeded, killed=code == -SIGKILL)

    def _recover(
        self, group: JobGroup, ends: Mapping[int, Ended], exceeded: LimitExceeded | None, killed: bool
    ) -> None:
        """Retry the jobs of a dead worker: the group again, or a pack in halves, or fail them."""
        if exceeded is None and killed and self._attempts.allow(group, preempted=False):
            self._requeue(group, ends, KILLED)
        elif len(group.jobs) > 1:
            unfinished = list(ends)
            reason = exceeded.reason if exceeded else OUT_OF_MEMORY if killed else ends[unfinished[0]].message
            self._listener.on_split(group, unfinished, reason)
            if killed and exceeded is None:
                self._size = max(1, self._size - 1)  # both halves at once need the same memory
            self._regroup(group, Regrouped(tuple(split_evenly(unfinished, min(2, len(unfinished)))), reason))
        else:
            self._end_all(ends)

    def _adopt_recorded_ends(self, worker: Worker) -> None:
        """End the jobs that a dead worker had recorded as ended, but not reported."""
        if worker.group is None:
            return
        for end in self._recorded_ends(worker.group, set(worker.open_jobs) - worker.already_ended):
            worker.open_jobs.remove(end.job)
            worker.killed.pop(end.job, None)
            self._end(end)

    def _recorded_ends(self, group: JobGroup, jobs: Collection[int]) -> list[Ended]:
        """Return the ends of these jobs of a group that their journals have."""
        ends = [self._listener.recorded_end(request) for request in group.requests if request.number in jobs]
        return [end for end in ends if end is not None]

    def _end_all(self, ends: Mapping[int, Ended]) -> None:
        for end in ends.values():
            self._end(end)

    def _end_for(self, exceeded: LimitExceeded, jobs: Collection[int]) -> None:
        self._end_all({job: Ended(job, "FAILED", exceeded.reason, unrecorded=True) for job in jobs})

    def _end(self, end: Ended) -> None:
        self._ends[end.job] = end
        self._listener.on_event(end)

    def _interrupt(self, number: int) -> None:
        """Interrupt the running jobs and wait for them; a second interrupt kills them."""
        self.interrupted = number
        self._waiting.clear()
        for end in list(self._requeued_ends.values()):
            self._end(replace(end, status="KILLED"))
        deadline = time.monotonic() + _EXIT_SECONDS
        with contextlib.suppress(KeyboardInterrupt):
            while self._busy() and time.monotonic() < deadline:
                for worker in self._workers:  # repeatedly: one may still be starting
                    send_signal(worker.process, signal.SIGINT)
                self._wait_for_events()
        for worker in self._busy():
            kill_group(worker.process)
            for job in worker.open_jobs:
                self._end(Ended(job, "KILLED", "it did not end when asked to", unrecorded=True))

    def _shut_down(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers:
            worker.process.join(timeout=5)
            kill_group(worker.process)
            worker.process.join()
            worker.close()

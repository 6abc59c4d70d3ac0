"""The worker pool: dead workers, retries, halved packs, limits."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from reglab.config.job_request import JobRequest
from reglab.launchers import worker_pool
from reglab.launchers.compose import JobGroup
from reglab.launchers.events import Ended, Idle, Packed, Regrouped, Requeued, Started
from reglab.launchers.exit_causes import ConfigRefused, LimitExceeded, Limits
from reglab.launchers.worker_handle import PoolRules, Spawned
from reglab.launchers.worker_pool import WorkerPool
from reglab.launchers.worker_stderr import WorkerStderr
from reglab.processes.child_processes import start
from reglab.processes.fork_server import server_pid

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["reglab.launchers.worker"])


def obey(pipe):
    """Do what the orders' overrides say, as ``worker.work`` does with training."""
    while (group := pipe.recv()) is not None:
        acts = {act for request in group.requests for act in request.overrides}
        if acts == {"fuse"} and len(group.jobs) > 2:
            pipe.send(Regrouped((group.jobs[:2], group.jobs[2:]), "two are enough"))
            pipe.send(Idle())
            continue
        if not all(_tried(act, group, pipe) for act in acts):
            return
        for job in group.jobs:
            if acts == {"die"} or (acts == {"die large"} and len(group.jobs) > 1 and job != group.jobs[0]):
                os.kill(os.getpid(), signal.SIGKILL)
            if group.requests[group.jobs.index(job)].overrides == ("exit",):
                os._exit(3)
            if acts == {"leave"}:
                os.write(2, b"first\nlast words\n")
                os._exit(0)
            if acts == {"speak"}:
                os.write(2, b"something about job 0\n")
            if acts == {"refuse"}:
                pipe.send(ConfigRefused(job, "FAILED", "no such thing"))
                continue
            while acts == {"hang large"} and len(group.jobs) > 1:
                signal.pause()
            pipe.send(Ended(job, "FINISHED", metrics={"pid": float(os.getpid()), "size": float(len(group.jobs))}))
        pipe.send(Idle())


def _tried(act, group, pipe):
    """Do ``<die or ask> <n> <file>``: the first n - 1 attempts, counted in the file, fail.

    ``meet <n> <folder>``: wait until so many processes have left their mark in the folder.
    """
    what, _, rest = act.partition(" ")
    count, _, file = rest.partition(" ")
    if not file:
        return True
    if what == "meet":
        Path(file, str(os.getpid())).touch()
        patience = time.monotonic() + 30
        while len(list(Path(file).iterdir())) < int(count):
            if time.monotonic() > patience:
                os._exit(4)
            time.sleep(0.01)
        return True
    with Path(file).open("a") as attempts:
        attempts.write("x")
    if Path(file).stat().st_size >= int(count):
        return True
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "orphan":
        os.setpgrp()  # as a worker does
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    for job in group.jobs:
        pipe.send(Ended(job, "KILLED", "interrupted"))
    pipe.send(Idle())
    return False


def spawn(*_):
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=obey, args=(theirs,))
    process.start()
    theirs.close()
    return Spawned(process, ours)


def spawn_heard(*_):
    stderr = WorkerStderr()
    process, pipe = start(CONTEXT, obey, stderr=stderr.child_end)
    return Spawned(process, pipe, stderr, server_pid())


class Listener:
    """Keeps what the pool tells, and answers as it is told to."""

    def __init__(self, reached=lambda group: 0, recorded=lambda request: None):
        self.events, self.left = [], []
        self.on_event, self.checkpoint_progress, self.recorded_end = self.events.append, reached, recorded

    def on_tick(self):
        pass

    def on_split(self, group, jobs, reason):
        self.left.append(tuple(jobs))


def run_groups(*orders, size=1, rules=None, spawn=spawn, **answers):
    listener = Listener(**answers)
    return WorkerPool(spawn, size, listener, rules).run(orders), listener.events, listener.left


def run(*acts, size=1):
    ends, events, _ = run_groups(*(pack(act, job) for job, act in enumerate(acts)), size=size)
    return ends, events


def pack(act, *jobs):
    return JobGroup(tuple(JobRequest(job, (act,)) for job in jobs))


def test_a_worker_runs_many_jobs():
    ends, events = run(*["work"] * 5)
    assert len({end.metrics["pid"] for end in ends.values()}) == 1
    assert [type(event).__name__ for event in events] == ["Started", "Ended"] * 5


def test_two_workers_share_the_jobs(tmp_path):
    """The first two jobs wait for each other: one worker alone would wait for ever."""
    ends, _ = run(*[f"meet 2 {tmp_path}"] * 2, *["work"] * 4, size=2)
    assert [ends[job].status for job in range(6)] == ["FINISHED"] * 6
    assert ends[0].metrics["pid"] != ends[1].metrics["pid"]


def test_a_death_costs_one_job():
    ends, _ = run("work", "die", "exit", "work")
    assert [ends[job].status for job in range(4)] == ["FINISHED", "FAILED", "FAILED", "FINISHED"]
    assert [ends[job].unrecorded for job in range(4)] == [False, True, True, False]
    assert "SIGKILL" in ends[1].message
    assert "exit code 3" in ends[2].message
    assert ends[0].metrics["pid"] != ends[3].metrics["pid"]


def test_the_jobs_of_a_pack_start_together_and_end_one_by_one():
    ends, events, _ = run_groups(pack("work", 4, 2), pack("work", 3))
    assert events[:3] == [Started(4), Started(2), Packed((4, 2))]
    assert [type(event).__name__ for event in events[3:]] == ["Ended", "Ended", "Started", "Ended"]
    assert [ends[job].metrics["size"] for job in (2, 3, 4)] == [2, 1, 2]


def test_a_pack_that_comes_apart_is_queued_again_in_its_groups_before_what_is_smaller():
    ends, events, left = run_groups(pack("fuse", 0, 1, 2, 3), pack("work", 9))
    assert Regrouped(((0, 1), (2, 3)), "two are enough") in events
    assert [event.jobs for event in events if isinstance(event, Packed)] == [(0, 1, 2, 3), (0, 1), (2, 3)]
    assert list(ends) == [0, 1, 2, 3, 9]
    assert left == []


def test_memory_that_ran_out_halves_the_pack_and_keeps_what_had_ended():
    ends, events, left = run_groups(pack("die large", 0, 1, 2, 3, 4), size=2)
    assert all(end.status == "FINISHED" for end in ends.values())
    assert {job: end.metrics["size"] for job, end in ends.items()} == {0: 5, 1: 2, 2: 1, 3: 2, 4: 1}
    assert left == [(1, 2, 3, 4), (2,), (4,)]
    assert [event.groups for event in events if isinstance(event, Regrouped)] == [((1, 2), (3, 4)), ((2,),), ((4,),)]


def test_a_pack_that_cannot_live_fails_job_by_job_in_the_end():
    ends, _, _ = run_groups(pack("die", 0, 1, 2))
    assert [(end.status, "memory" in end.message) for end in ends.values()] == [("FAILED", True)] * 3


def test_any_other_death_fails_who_is_to_blame_alone():
    acts = ["exit" if job in (2, 5) else "work" for job in range(7)]
    ends, _, _ = run_groups(JobGroup(tuple(JobRequest(job, (act,)) for job, act in enumerate(acts))))
    assert [ends[job].status for job in range(7)] == ["FAILED" if act == "exit" else "FINISHED" for act in acts]
    assert all(ends[job].unrecorded and "exit code 3" in ends[job].message for job in (2, 5))


@pytest.mark.parametrize("act", ["die", "ask"])
def test_an_order_that_is_cut_short_goes_on_as_long_as_it_gets_further(act, tmp_path):
    file = tmp_path / "attempts"
    ends, events, left = run_groups(
        pack(f"{act} 9 {file}", 0, 1), pack("work", 2), reached=lambda _: file.stat().st_size
    )
    assert [ends[job].status for job in range(3)] == ["FINISHED"] * 3
    assert list(ends) == [0, 1, 2]  # what goes on goes before what has not begun
    assert [event.jobs for event in events if isinstance(event, Requeued)] == [(0, 1)] * 8
    assert left == []


@pytest.mark.parametrize("act, tries, status", [("die", 2, "FAILED"), ("ask", 4, "KILLED")])
def test_one_that_gets_no_further_is_given_up(act, tries, status, tmp_path):
    file = tmp_path / "attempts"
    ends, _, _ = run_groups(pack(f"{act} 99 {file}", 0))
    assert file.stat().st_size == tries
    assert ends[0].status == status


def test_members_that_had_ended_go_along_unheard():
    ends, events, _ = run_groups(pack("die large", 0, 1))
    assert [event.job for event in events if isinstance(event, Ended)] == [0, 1]
    assert [event.jobs for event in events if isinstance(event, Requeued)] == [(1,)]
    assert {job: end.status for job, end in ends.items()} == {0: "FINISHED", 1: "FINISHED"}


def test_a_job_that_recorded_its_end_and_died_before_it_told_has_ended():
    asked = []

    def recorded(request):
        asked.append(request)
        return (
            Ended(request.number, "FINISHED", run_id="it") if len(asked) > 1 else None
        )  # not yet when it was handed out

    ends, events, _ = run_groups(pack("die", 0), recorded=recorded)
    assert ends == {0: Ended(0, "FINISHED", run_id="it")}
    assert [type(event).__name__ for event in events] == ["Started", "Ended"]


def test_an_end_from_before_it_was_handed_out_does_not_count():
    ends, _, _ = run_groups(pack("die", 0), recorded=lambda request: Ended(request.number, "FINISHED"))
    assert ends[0].status == "FAILED"


class Heavy(Limits):
    """Finds every order of more than one job too large, as soon as it looks."""

    def exceeded(self, pid, seconds):
        return LimitExceeded("it is too large", over_memory=True)


def test_each_order_can_have_a_worker_of_its_own(monkeypatch):
    """One that does not exit is killed."""
    monkeypatch.setattr(worker_pool, "_EXIT_SECONDS", 0.1)
    ends, _, _ = run_groups(*(pack("work", job) for job in range(3)), rules=PoolRules(one_shot=True))
    assert len({end.metrics["pid"] for end in ends.values()}) == 3


def test_a_pack_beyond_its_memory_is_halved_and_does_not_go_on():
    limits = Heavy()
    ends, events, left = run_groups(pack("hang large", 0, 1), rules=PoolRules(retries=3, limits=limits))
    assert [event.reason for event in events if isinstance(event, Regrouped)] == ["it is too large"]
    assert not [event for event in events if isinstance(event, Requeued)]
    assert left == [(0, 1)]
    assert sorted(ends) == [0, 1]


@pytest.mark.parametrize("stop_on_refusal, statuses", [(True, ["FAILED", "KILLED"]), (False, ["FAILED", "FINISHED"])])
def test_a_refused_configuration_may_keep_the_rest_from_beginning(stop_on_refusal, statuses):
    ends, events, _ = run_groups(pack("refuse", 0), pack("work", 1), rules=PoolRules(stop_on_refusal=stop_on_refusal))
    assert [ends[job].status for job in (0, 1)] == statuses
    assert len([event for event in events if isinstance(event, Started)]) == (1 if stop_on_refusal else 2)


def test_a_job_that_leaves_with_exit_code_0_has_failed_and_is_not_tried_again(tmp_path):
    """0 is how a worker ends behind its last job; in the middle of one it is no request to end."""
    ends, events, _ = run_groups(pack("leave", 0), pack("work", 1), spawn=spawn_heard)
    assert [ends[job].status for job in (0, 1)] == ["FAILED", "FINISHED"]
    assert ends[0].message == "its worker process ended with exit code 0; its last lines: first | last words"
    assert not [event for event in events if isinstance(event, Requeued)]


def test_workers_that_cannot_be_started_fail_their_jobs_with_the_reason():
    tried = []

    def broken(group, index):
        tried.append(group.jobs)
        raise BrokenPipeError(32, "Broken pipe")

    ends, _, _ = run_groups(pack("work", 0, 1), pack("work", 2), spawn=broken)
    assert tried == [(0, 1)] * 2 + [(2,)] * 2
    assert {end.status for end in ends.values()} == {"FAILED"}
    assert all("could not be started (BrokenPipeError" in end.message for end in ends.values())


def test_a_start_that_fails_once_costs_nothing():
    failures = [EOFError("unexpected EOF")]

    def once(group, index):
        if failures:
            raise failures.pop()
        return spawn()

    ends, _, _ = run_groups(pack("work", 0), spawn=once)
    assert ends[0].status == "FINISHED"


def test_the_death_of_the_fork_server_is_not_the_jobs_fault(tmp_path):
    """Python then reports exit code 255 for workers that still run."""
    ends, events, _ = run_groups(pack(f"orphan 2 {tmp_path / 'tries'}", 0), pack("work", 1), spawn=spawn_heard)
    assert [ends[job].status for job in (0, 1)] == ["FINISHED", "FINISHED"]
    assert [event.jobs for event in events if isinstance(event, Requeued)] == [(0,)]


def test_what_a_worker_writes_is_shown_and_forgotten_behind_its_job(capsys):
    ends, _, _ = run_groups(pack("speak", 0), pack("exit", 1), spawn=spawn_heard)
    assert "something about job 0" in capsys.readouterr().err
    assert ends[1].message == "its worker process ended with exit code 3"

"""Worker processes: kept, replaced when they die, and what is said about their death."""

import multiprocessing
import os
import signal

import pytest

from reglab.sweeps.compose import Order
from reglab.sweeps.events import Ended
from reglab.sweeps.pool import Pool, why_dead

CONTEXT = multiprocessing.get_context("forkserver")


def obey(pipe):
    """Do what the orders' overrides say, as ``worker.work`` does with training."""
    while (order := pipe.recv()) is not None:
        if order.overrides == ("die",):
            os.kill(os.getpid(), signal.SIGKILL)
        if order.overrides == ("exit",):
            os._exit(3)
        pipe.send(Ended(order.job, "FINISHED", metrics={"pid": float(os.getpid())}))


def spawn():
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=obey, args=(theirs,))
    process.start()
    theirs.close()
    return process, ours


def run(*acts, size=1):
    events = []
    pool = Pool(spawn, size, events.append, lambda: None)
    return pool.run([Order(job, (act,)) for job, act in enumerate(acts)]), events


def test_a_worker_runs_many_jobs():
    ends, events = run(*["work"] * 5)
    assert len({end.metrics["pid"] for end in ends.values()}) == 1
    assert [type(event).__name__ for event in events] == ["Started", "Ended"] * 5


def test_two_workers_share_the_jobs():
    ends, _ = run(*["work"] * 6, size=2)
    assert sorted(ends) == list(range(6))


def test_a_death_costs_one_job():
    ends, _ = run("work", "die", "exit", "work")
    assert [ends[job].status for job in range(4)] == ["FINISHED", "FAILED", "FAILED", "FINISHED"]
    assert [ends[job].alone for job in range(4)] == [False, True, True, False]
    assert "SIGKILL" in ends[1].message
    assert "exit code 3" in ends[2].message
    assert ends[0].metrics["pid"] != ends[3].metrics["pid"]


@pytest.mark.parametrize(
    "code, part", [(-9, "memory"), (-11, "SIGSEGV"), (1, "exit code 1"), (None, "exit code"), (-200, "signal 200")]
)
def test_why_dead(code, part):
    assert part in why_dead(code)

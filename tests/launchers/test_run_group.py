"""Running a group of jobs, in this process."""

import errno

import pytest
from omegaconf import DictConfig

from launchers.standin import Progress, Result
from launchers.standin_pack import LSTM, train_one, train_pack
from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import PackSettings
from reglab.core.errors import Unfused
from reglab.launchers.compose import Composer, JobGroup
from reglab.launchers.events import Ended, EpochEnded, Regrouped
from reglab.launchers.run_group import Assignment, run_group

LRS = (1, 0, -1, 2)


@pytest.fixture
def run(hydra, master):
    def run(act, train_pack=train_pack):
        sent = []
        requests = [JobRequest(number, (f"act={act}", f"optimizer.lr={lr}")) for number, lr in enumerate(LRS, start=10)]
        assignment = Assignment(None, master, train_one, train_pack, PackSettings(None, 1), {})
        composer = Composer(hydra.config_loader, master)
        run_group(JobGroup(tuple(requests)), assignment, composer, sent.append)
        return sent

    return run


def test_each_member_trains_with_its_own_config_and_tells_its_end(run):
    sent = run("finish")
    assert [event.job for event in sent if isinstance(event, EpochEnded)] == [10, 11, 12, 13]
    ends = {event.job: (event.run_id, event.metrics["lr"]) for event in sent if isinstance(event, Ended)}
    assert ends == {number: (f"run-{number}", lr) for number, lr in enumerate(LRS, start=10)}


@pytest.mark.parametrize(
    "act, groups, reason",
    [
        ("zero", ((11,), (10, 12, 13)), "a learning rate of 0 is another program"),
        ("lstm", ((10,), (11,), (12,), (13,)), LSTM),
        ("negative", ((10, 11), (12, 13)), "optimizer.lr must be > 0"),  # one of them is faulty
    ],
)
def test_a_pack_that_cannot_train_comes_apart(run, act, groups, reason):
    assert run(act) == [Regrouped(groups, reason)]


def test_a_crash_halves_those_that_had_not_ended(run):
    events = run("crash")
    assert [(event.job, event.status) for event in events if isinstance(event, Ended)] == [(13, "FINISHED")]
    assert events[-1] == Regrouped(((10,), (11, 12)), "RuntimeError: a bug")


def test_a_member_without_a_result_has_failed(run):
    assert [(e.status, e.message) for e in run("silent") if isinstance(e, Ended)] == [
        ("FAILED", "its pack ended without a result for it")
    ] * 4


def test_an_interrupt_before_training_kills_all(run):
    def interrupted(*_):
        raise KeyboardInterrupt

    assert run("finish", interrupted) == [Ended(job, "KILLED", "interrupted") for job in (10, 11, 12, 13)]


def test_members_that_ended_do_not_train_again(run):
    def late(configs, requests, settings, on_progress, on_end):
        assert all(isinstance(config, DictConfig) for config in configs)
        on_end(1, None)
        raise Unfused("too late", [[0, 1], [2, 3]])

    assert run("finish", late)[1:] == [Regrouped(((10,), (12, 13)), "too late")]


def test_members_that_memory_ran_out_for_train_again_and_are_not_told_as_ended(run):
    def exhausted(configs, requests, settings, on_progress, on_end):
        on_end(0, None)
        for position in (1, 2, 3):
            on_end(position, Result("r", "KILLED", "out of memory: trained again in a smaller pack"))
        raise Unfused("3 members ran out of memory", [[1], [2, 3]])

    assert run("finish", exhausted) == [
        Ended(10, "FINISHED"),
        Regrouped(((11,), (12, 13)), "3 members ran out of memory"),
    ]


def test_large_packs_are_heard_less_often_but_always_with_their_last_epoch(run):
    def busy(configs, requests, settings, on_progress, on_end):
        for epoch in range(1, 101):
            on_progress(2, Progress(epoch, 100, {}))

    epochs = [event.epoch for event in run("finish", busy) if isinstance(event, EpochEnded)]
    assert (epochs[0], epochs[-1]) == (1, 100)
    assert len(epochs) < 100


@pytest.mark.parametrize("number, halved", [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOSPC, False)])
def test_a_shortage_of_open_files_halves_a_pack_and_a_full_disk_does_not(run, number, halved):
    def fail(configs, requests, settings, on_progress, on_end):
        raise OSError(number, "no more")

    events = run("finish", fail)
    assert [type(event) for event in events] == ([Regrouped] if halved else [Ended] * 4)

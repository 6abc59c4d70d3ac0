"""The fused launcher from end to end, with worker processes and stand-ins for training."""

import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from launchers import standin_pack
from reglab.config.sweep_functions import rewrite
from reglab.core.errors import UserError
from reglab.launchers import local, task
from reglab.launchers.display import Display
from reglab.launchers.events import EpochEnded
from reglab.launchers.fused import check_compile, check_pack_size, common_solo_reason
from reglab.launchers.job_returns import Interrupted

FUSED = ["hydra/launcher=fused", "hydra.launcher.preload=[reglab.launchers.worker]", "hydra.mode=MULTIRUN"]


@pytest.fixture
def returned(hydra, master, monkeypatch):
    """Run a fused sweep of the stand-ins; return how each job ended, in the launcher's order."""
    monkeypatch.setattr(task, "train_pack", standin_pack.train_pack)
    answers = {}
    launch = local.LocalRunner.launch

    def listened(self, *given):
        answers.update(sorted(launch(self, *given).items()))
        return answers

    monkeypatch.setattr(local.LocalRunner, "launch", listened)

    def run(*overrides, workers=2):
        every = rewrite([*overrides, *FUSED, f"hydra.launcher.workers={workers}"])
        return hydra.multirun("train", standin_pack.train_one, every), list(answers.values())

    return run


def test_packs_and_the_rest_run_and_answer_in_the_order_of_the_jobs(returned, capsys):
    result, told = returned("optimizer=adam,sgd", "optimizer.lr=1,2,3", "seed=0,1")
    assert (result.jobs, result.finished) == (12, 12)
    assert [end.job for end in told] == list(range(12))
    assert [end.run_id for end in told] == [f"run-{job}" for job in range(12)]
    assert [(end.metrics["lr"], end.metrics["size"]) for end in told] == [(lr, 6) for lr in (1, 1, 2, 2, 3, 3)] * 2
    assert "12 finished" in capsys.readouterr().err
    assert not list(Path("out").glob("*/.hydra"))


def test_a_large_pack_is_cut_for_the_second_worker(returned):
    _, told = returned("optimizer.lr=range(1,17)")
    assert [end.metrics["size"] for end in told] == [8] * 16
    assert len({end.metrics["pid"] for end in told}) <= 2


def test_the_largest_size_of_a_pack(returned):
    _, told = returned("optimizer.lr=range(1,6)", "hydra.launcher.pack=2", workers=1)
    assert sorted(end.metrics["size"] for end in told) == [1, 2, 2, 2, 2]


def test_a_pack_has_as_many_members_as_files_can_be_open(returned, monkeypatch):
    monkeypatch.setattr("reglab.core.descriptors.limit", lambda: 80 + 2 * 2)
    _, told = returned("optimizer.lr=range(1,6)", workers=1)
    assert sorted(end.metrics["size"] for end in told) == [1, 2, 2, 2, 2]


def test_a_sweep_that_cannot_be_fused_says_so_in_one_line(returned, capsys):
    result, told = returned("data=digits", "+data.kind=a,b", "act=finish")
    assert result.complete
    assert [end.metrics["size"] for end in told] == [1, 1]
    assert capsys.readouterr().err.count("nothing to fuse: no two jobs differ only in numbers") == 1


def test_who_trains_alone_by_config_is_told_why(returned, capsys):
    result, told = returned("+trainer.precision=bf16-mixed,32-true", "seed=0,1")
    assert result.complete
    assert [end.metrics["size"] for end in told] == [1, 1, 2, 2]
    assert "2 jobs train one by one: trainer.precision=bf16-mixed" in capsys.readouterr().err


def test_what_training_says_of_a_pack_is_told_once_for_all_of_it(returned, capsys):
    result, told = returned("act=lstm", "seed=range(0,16)")
    assert result.complete
    assert {end.metrics["size"] for end in told} == {1}
    assert capsys.readouterr().err.count(f"16 jobs train one by one: {standin_pack.LSTM}") == 1


def test_groups_that_train_apart(returned, capsys):
    _, told = returned("act=zero", "optimizer.lr=0,1,2,3,0")
    assert [end.metrics["size"] for end in told] == [2, 3, 3, 3, 2]
    assert "5 jobs train in 2 packs: a learning rate of 0" in capsys.readouterr().err


def test_only_the_faulty_job_of_a_pack_fails(returned):
    result, told = returned("act=negative", "optimizer.lr=1,2,-3,4")
    assert [end.status for end in told] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert "optimizer.lr must be > 0, got -3" in result.failures


def test_memory_that_ran_out_halves_the_pack(returned, capsys):
    result, told = returned("act=die", "optimizer.lr=1,2,3,4,5", workers=1)
    assert result.complete
    assert [end.metrics["size"] for end in told] == [2, 2, 2, 2, 5]
    assert "4 jobs train in 2 packs: its worker process was killed (SIGKILL)" in capsys.readouterr().err


class Impatient(Display):
    """Presses Ctrl-C when a job has told of its first epoch."""

    pressed = False

    def on_event(self, event):
        super().on_event(event)
        if isinstance(event, EpochEnded) and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_kills_all_members_in_order_and_starts_no_more(returned, monkeypatch, capsys):
    monkeypatch.setattr(local, "Display", Impatient)
    with pytest.raises(Interrupted) as interrupt:
        returned("act=wait", "optimizer=adam,sgd", "seed=0,1,2", workers=1)
    assert [(job, end.status, end.message) for job, end in sorted(interrupt.value.ends.items())] == [
        (job, "KILLED", "asked to end") for job in range(3)
    ]
    assert "3 killed, 3 not started" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["pack=0", "compile=never", "compile_seconds=0", "workers=0"])
def test_wrong_settings_are_refused_before_anything_starts(hydra, wrong):
    key = wrong.split("=")[0]
    with pytest.raises(Exception, match=key) as told:
        hydra.multirun("train", standin_pack.train_one, [*FUSED, "seed=0,1", f"hydra.launcher.{wrong}"])
    assert isinstance(told.value, UserError) or isinstance(told.value.__cause__, UserError)
    assert not Path("out").exists()


@pytest.mark.parametrize("given, meant", [(None, None), ("auto", None), (True, True), (False, False)])
def test_compile(given, meant):
    assert check_compile(given) is meant
    assert check_pack_size(None) is None


@pytest.mark.parametrize(
    "key, value", [("hydra.job.chdir", True), ("hydra.job.env_set.A", "1"), ("hydra.callbacks.mine._target_", "x.Y")]
)
def test_what_hydra_does_for_each_job_keeps_jobs_apart(master, key, value):
    assert common_solo_reason(master) is None
    OmegaConf.set_readonly(master.hydra, False)
    OmegaConf.update(master, key, value, force_add=True)
    assert key.split(".")[1] in common_solo_reason(master)

"""The process launcher with stand-ins: GPUs of each process, exit causes, retries."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launchers import standin_process
from reglab.config.sweep_functions import rewrite
from reglab.core.errors import UserError
from reglab.launchers import local, process, worker_pool
from reglab.launchers.display import Display
from reglab.launchers.events import EpochEnded, Requeued, Started
from reglab.launchers.job_returns import Interrupted

PROCESS = ["hydra/launcher=process", "hydra.launcher.pack=1", "hydra.mode=MULTIRUN"]


class Listening(Display):
    """Keeps what it is told."""

    events: list[object] = []  # noqa: RUF012 - emptied by the fixture

    def on_event(self, event):
        super().on_event(event)
        self.events.append(event)


@pytest.fixture
def run(hydra, monkeypatch):
    """Run a sweep of the stand-in; return its result and how each job ended."""
    Listening.events = []
    monkeypatch.setattr(local, "Display", Listening)
    answers = {}
    launch = local.LocalRunner.launch

    def listened(self, *given):
        answers.update(sorted(launch(self, *given).items()))
        return answers

    monkeypatch.setattr(local.LocalRunner, "launch", listened)

    def run(*overrides, task=standin_process.task, workers=1):
        every = rewrite([f"folder={Path.cwd()}", *PROCESS, f"hydra.launcher.workers={workers}", *overrides])
        result = hydra.multirun("train", task, every)
        return result, list(answers.values())

    return run


def notes(name):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def nobody_is_left(*names):
    return not any(psutil.pid_exists(note["pid"]) for name in names for note in notes(name))


def test_each_job_has_a_process_and_a_gpu_of_its_own(run, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    result, _ = run("seed=0,1,2", "hydra.launcher.workers=null", "hydra.launcher.threads=3")
    assert result.complete
    own = [note for job in range(3) for note in notes(f"job-{job}")]
    assert len({note["pid"] for note in own}) == 3
    assert [note["group"] for note in own] == [note["pid"] for note in own]
    assert {note["CUDA_VISIBLE_DEVICES"] for note in own} == {"4", "7"}
    assert own[0]["CUDA_VISIBLE_DEVICES"] != own[1]["CUDA_VISIBLE_DEVICES"]
    assert {(note["OMP_NUM_THREADS"], note["RANK"]) for note in own} == {("3", None)}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert nobody_is_left("job-0", "job-1", "job-2")


@pytest.mark.parametrize("act", ["die", "term"])
def test_who_is_killed_or_asked_to_end_goes_on_as_often_as_is_said(act, run):
    _, told = run(f"act={act}-1,{act}-2", "hydra.launcher.retries=1")
    assert (told[0].status, told[0].metrics["tries"]) == ("FINISHED", 2)
    assert told[1].status == {"die": "FAILED", "term": "KILLED"}[act]
    assert len(notes("job-1")) == 2
    assert [event.jobs for event in Listening.events if isinstance(event, Requeued)] == [(0,), (1,)]


def test_failures_of_a_job_cost_that_job(run):
    result, told = run("act=exhaust,late,finish")
    assert [end.status for end in told] == ["FAILED", "FAILED", "FINISHED"]
    assert [told[0].message.partition(" (")[0], told[1].message] == [
        "MemoryError: out of memory",
        "the trainer does not like it",
    ]
    assert [len(notes(f"job-{job}")) for job in range(3)] == [1, 1, 1]
    assert not result.complete


def test_a_refused_configuration_stops_the_sweep_and_lets_the_running_end(run, capsys):
    result, told = run("act=term-1,refuse,finish", workers=2)
    assert [end.status for end in told] == ["FINISHED", "FAILED", "KILLED"]
    assert told[2].message == "not started: the configuration of job 1 was refused"
    assert not Path("job-2").exists()
    assert (result.complete, result.finished) == (False, 1)
    assert result.failures.count("strength must be finite and >= 0, got -1") == 1
    assert "1 not started" in capsys.readouterr().err


def test_too_much_memory_kills(run):
    _, told = run("act=grow,finish", "hydra.launcher.memory=0.5")
    assert [end.status for end in told] == ["FAILED", "FINISHED"]
    assert "GB of memory, more than 0.5 (hydra.launcher.memory)" in told[0].message
    assert len(notes("job-0")) == 1


@pytest.mark.parametrize("act", ["wait", "deaf"])
def test_too_much_time_ends(act, run, monkeypatch):
    monkeypatch.setattr(worker_pool, "_EXIT_SECONDS", {"wait": 1e6, "deaf": 0.1}[act])
    _, told = run(f"act={act}", "hydra.launcher.timeout=0.05")
    assert [end.status for end in told] == ["FAILED"]
    assert "took longer than 0.05 minutes (hydra.launcher.timeout); to resume" in told[0].message


class Impatient(Listening):
    """Presses Ctrl-C when a job has told of its first epoch."""

    def on_event(self, event):
        super().on_event(event)
        if isinstance(event, EpochEnded):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_all(run, monkeypatch):
    monkeypatch.setattr(local, "Display", Impatient)
    with pytest.raises(Interrupted) as interrupt:
        run("act=wait", "seed=0,1")
    assert [end.status for end in interrupt.value.ends.values()] == ["KILLED"]
    assert [event.job for event in Listening.events if isinstance(event, Started)] == [0]
    assert nobody_is_left("job-0")


def test_a_rank_that_is_killed_costs_an_attempt(run):
    arguments = ("act=die-1", "+trainer={devices: 2, accelerator: cpu}")
    _, told = run(*arguments, "seed=0", task=standin_process.on_ranks)
    assert (told[0].status, told[0].metrics["tries"]) == ("FINISHED", 2)
    visible = [(note["RANK"], note["WORLD_SIZE"]) for rank in (0, 1) for note in notes(f"rank-{rank}")]
    assert visible == [("0", "2")] * 2 + [("1", "2")] * 2
    assert [event.jobs for event in Listening.events if isinstance(event, Requeued)] == [(0,)]
    assert nobody_is_left("rank-0", "rank-1")


def test_a_rank_that_fails_ends_the_job_with_its_message(run, monkeypatch):
    monkeypatch.setattr(process, "RANK_EXIT_SECONDS", 0.1)
    arguments = ("act=raise-9", "+trainer={devices: 2, accelerator: cpu}")
    _, told = run(*arguments, "seed=0", task=standin_process.on_ranks)
    assert (told[0].status, told[0].unrecorded) == ("FAILED", True)
    assert told[0].message.startswith("rank 1: ValueError: a bug of one rank")
    assert nobody_is_left("rank-0", "rank-1")


SWEEP = """
import sys
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from launchers import standin_process
if __name__ == "__main__":
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("reglab", create_config_search_path(sys.argv[1]))
    hydra.multirun("train", standin_process.task, sys.argv[2:])
"""


def test_nobody_is_left_where_the_launcher_is_killed(conf):
    Path("sweep.py").write_text(SWEEP)
    arguments = [str(conf), "act=wait", "seed=0,1", f"folder={Path.cwd()}", *PROCESS, "hydra.launcher.workers=2"]
    tests = str(Path(standin_process.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)])}
    sweep = subprocess.Popen([sys.executable, "sweep.py", *arguments], env=environment, stderr=subprocess.PIPE)
    try:
        while not all(Path(f"job-{job}").exists() for job in (0, 1)):
            assert sweep.poll() is None, sweep.stderr.read()
        workers = psutil.Process(sweep.pid).children(recursive=True)
    finally:
        sweep.kill()
        sweep.communicate()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []


@pytest.mark.parametrize("wrong", ["workers=0", "timeout=0", "memory=-1", "retries=-1", "gpus=2", "pack=0"])
def test_wrong_settings_are_refused_before_anything_starts(hydra, wrong):
    key = wrong.split("=")[0]
    with pytest.raises(Exception, match=f"hydra.launcher.*{key}") as told:
        hydra.multirun("train", standin_process.task, [*PROCESS, "seed=0,1", f"hydra.launcher.{wrong}"])
    assert isinstance(told.value, UserError) or isinstance(told.value.__cause__, UserError)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "launcher, trainer, part",
    [
        ("local", "{devices: 2}", "hydra/launcher=process"),
        ("local", "{devices: 1, num_nodes: 2}", "one machine"),
        ("process", "{devices: 3, accelerator: gpu}", "may use only 2 GPUs"),
        ("process", "{devices: 1, num_nodes: 2}", "trains jobs on one machine"),
    ],
)
def test_devices_that_a_launcher_cannot_give_are_refused(hydra, launcher, trainer, part, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    arguments = [f"hydra/launcher={launcher}", "hydra.mode=MULTIRUN", "seed=0,1", f"+trainer={trainer}"]
    with pytest.raises(UserError, match=part):
        hydra.multirun("train", standin_process.task, arguments)

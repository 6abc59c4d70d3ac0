"""One run on two processes, however they are started.

One folder, one record, one result, told once.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import forked
from reglab.cli import train
from reglab.core.errors import UserError
from reglab.processes import rank_consistency, rank_environment
from reglab.processes.rank_environment import ProcessRank
from reglab.processes.rank_processes import free_port
from reglab.tracking import run_state
from reglab.tracking.folder import read_identity

RANKS = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
SMALL = ("data=wine", "trainer.max_epochs=3", "tracking=none", *RANKS)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "reglab")
MODEL = """
import os, signal
from torch import nn

class Net(nn.Linear):
    steps = 0

    def __init__(self, inputs: int, outputs: int, norm: None) -> None:
        super().__init__(inputs, outputs)

    def forward(self, inputs):
        self.steps += self.training
        if str(self.steps) == os.environ.get("STOP_AT"):
            signal.raise_signal(signal.SIGTERM)
        return super().forward(inputs)
"""
OWN = ("model._target_=own.Net", "~model.width", "~model.depth", "~model.activation", "trust=[own]")
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NNODES": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_JOB_NAME": "study",
}


def runs(folder: Path) -> list[Path]:
    """Return the folders of runs, in order."""
    return sorted(folder.glob("runs/*/*"))


def test_torchrun_makes_one_run_and_shows_one_result(tmp_path: Path) -> None:
    ended = subprocess.run([*TORCHRUN, "train", *SMALL], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("FINISHED") == ended.stdout.count("val/loss") == 1
    (run,) = runs(tmp_path)
    assert f"It is in {run.relative_to(tmp_path)}" in ended.stdout
    assert run_state.read_state(run).status == "FINISHED"
    assert (run / ".hydra" / "overrides.yaml").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_under_torchrun_a_typo_is_told_once(tmp_path: Path) -> None:
    words = [*TORCHRUN, "train", *SMALL, "optimizer.lrr=1"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode != 0
    assert ended.stderr.count("did you mean 'lr'?") == ended.stderr.count("reglab: ") == 1
    assert not list(tmp_path.iterdir())


def srun(folder: Path, **more: str) -> tuple[list[int], list[tuple[str, str]]]:
    """Do what ``srun --ntasks=2`` would, and return the exit codes, and what each process said."""
    words = ["-m", "reglab", "train", *SMALL, *OWN]
    common = {**os.environ, **SLURM, "MASTER_PORT": str(free_port()), **more}
    tasks = [
        forked.Popen(words, cwd=folder, env={**common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in "01"
    ]
    said = [task.communicate() for task in tasks]
    return [task.wait() for task in tasks], said


def test_a_slurm_job_that_is_told_to_end_saves_and_goes_on_when_it_is_requeued(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MODEL)
    codes, said = srun(tmp_path, STOP_AT="4")
    assert codes == [128 + signal.SIGTERM] * 2, said[0][1][-3000:]
    (run,) = runs(tmp_path)
    assert run.relative_to(tmp_path) == Path("runs/slurm/77.0")
    assert "reglab resume runs/slurm/77.0" in said[0][0]
    assert said[1][0] == ""
    assert run_state.read_state(run).status == "KILLED"
    before = read_identity(run).run_id

    codes, said = srun(tmp_path, SLURM_RESTART_COUNT="1")
    assert codes == [0, 0], said[0][1][-3000:]
    assert (runs(tmp_path), read_identity(run).run_id) == ([run], before)
    found = run_state.read_state(run)
    assert (found.status, found.tags[run_state.RESUMED]) == ("FINISHED", "1")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nothing has started anything."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")  # so that what is set meanwhile is taken back
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ProcessRank()),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", **SLURM},
            ProcessRank("torchrun", 5, 8, node_leader=False),
        ),
        ({**SLURM, "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}, ProcessRank("srun", 4, 8)),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, ProcessRank()),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, ProcessRank("lightning", 1, 2, node_leader=False)),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, ProcessRank()),
    ],
)
def test_which_process_this_is(environment: pytest.MonkeyPatch, given: dict[str, str], expected: ProcessRank) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    assert rank_environment.process_rank() == expected


def config(folder: str = "runs/${now:%H}", **trainer: int) -> DictConfig:
    return OmegaConf.create({"trainer": trainer, "hydra": {"run": {"dir": folder}}})


@pytest.mark.parametrize(
    "given, trainer, sweep, message",
    [
        (SLURM, {"devices": 2}, True, "srun started 2 processes, and each would run the whole sweep"),
        (SLURM, {"devices": 4}, False, "srun started 2 processes, but trainer.devices times trainer.num_nodes is 4"),
        ({"SLURM_NTASKS": "2"}, {"devices": 2}, False, "put srun before reglab: the Slurm job has 2 tasks"),
        ({}, {"devices": 2, "num_nodes": 2}, False, "Give hydra.run.dir=FOLDER, the same for all"),
    ],
)
def test_processes_that_do_not_fit_the_job_are_refused(
    environment: pytest.MonkeyPatch, given: dict[str, str], trainer: dict[str, int], sweep: bool, message: str
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(UserError, match=message):
        rank_consistency.check_started_processes(config(**trainer), sweep)


def test_what_fits_is_let_through(environment: pytest.MonkeyPatch) -> None:
    rank_consistency.check_started_processes(config(devices=2))
    rank_consistency.check_started_processes(config(devices=2), sweep=True)
    rank_consistency.check_started_processes(config("runs/mine", devices=2, num_nodes=2))
    for name, value in SLURM.items():
        environment.setenv(name, value)
    rank_consistency.check_started_processes(config(devices=2))
    # Without which Lightning refuses `srun --ntasks`.
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "2"


def test_a_folder_of_ones_own_is_kept_unless_the_processes_would_name_it_apart(environment: pytest.MonkeyPatch) -> None:
    assert rank_consistency.shared_folder_overrides(config(), []) == []
    for name, value in {**SLURM, "SLURM_PROCID": "1"}.items():
        environment.setenv(name, value)
    assert rank_consistency.shared_folder_overrides(config("runs/mine"), ["hydra.run.dir=runs/mine"]) == [
        "hydra.output_subdir=null"
    ]
    assert rank_consistency.shared_folder_overrides(config(), []) == [
        "hydra.run.dir=runs/slurm/77.0",
        "hydra.output_subdir=null",
    ]
    with pytest.raises(UserError, match=r"as in hydra.run.dir=runs/\$SLURM_JOB_ID"):
        rank_consistency.shared_folder_overrides(config(), ["hydra.run.dir=runs/${now:%H}"])


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_rank_that_comes_after_another_takes_the_folder_that_it_made(
    environment: pytest.MonkeyPatch, tmp_path: Path, rank: str
) -> None:
    for name, value in {**SLURM, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}.items():
        environment.setenv(name, value)
    for name in (".hydra", "rank1"):
        (tmp_path / name).mkdir()
    (tmp_path / "reglab.log").touch()
    composed: list[DictConfig] = []
    environment.setattr(train, "train_one", lambda hydra, name, config, label: composed.append(config) or 0)
    words = ["trainer.devices=2", "tracking=none", f"hydra.run.dir={tmp_path}"]
    assert train.train(words) == 0
    assert composed[0].hydra.output_subdir == {"0": ".hydra", "1": None}[rank]

    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds 'thesis.tex', which no run of reglab wrote"):
        train.train(words)

"""A sweep whose processes die, launched again, equals an uninterrupted one."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import forked

SWEEP = (
    "train", "-m", "data=wine", "data.batch_size=16", "model.width=6", "trainer.max_epochs=24",
    "trainer.accelerator=cpu", "trainer.checkpoint_seconds=0", "regularizer=[dropout]",
    "regularizer.dropout.strength=0.1,0.2,0.3", "seed=0,1", "optimizer.lr=0.01", "sweep.report=false",
    "sweep.test=false",
    "hydra.launcher.workers=1", "hydra.launcher.always=true", "hydra.launcher.compile=false", "hydra.launcher.pack=3",
)  # fmt: skip
ENVIRONMENT = {**os.environ, "COLUMNS": "200"}


class Found(NamedTuple):
    """Of each job its run's id, status and rows, and the weights of each checkpoint."""

    runs: dict[int, tuple[str, str]]
    rows: dict[int, list[tuple[str, int, str]]]
    weights: dict[tuple[str, str], dict[str, torch.Tensor]]


def start(folder: Path) -> forked.Popen:
    return forked.Popen(["-m", "reglab", *SWEEP], cwd=folder, env=ENVIRONMENT)


def finish(process: forked.Popen) -> tuple[int, str]:
    _, said = process.communicate()
    return process.wait(), said


def found(folder: Path) -> Found:
    runs, rows = {}, {}
    with closing(sqlite3.connect(folder / "reglab.db")) as store:
        query = "SELECT run_uuid, status, value FROM runs JOIN tags USING (run_uuid) WHERE key = 'reglab.job'"
        for run, status, job in store.execute(query).fetchall():
            assert int(job) not in runs, "a job has a second run"
            runs[int(job)] = (run, status)
            metrics = store.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", [run])
            rows[int(job)] = sorted((k, step, repr(v)) for k, step, v in metrics if not k.startswith("system/"))
    files = [path for path in folder.glob("runs/*/*/*/checkpoints/*.ckpt") if ".previous" not in path.name]
    weights = {
        (path.parent.parent.name, path.name): torch.load(path, weights_only=True)["state_dict"] for path in files
    }
    return Found(runs, rows, weights)


def assert_same(mine: Found, right: Found) -> None:
    assert {job: status for job, (_, status) in mine.runs.items()} == dict.fromkeys(range(6), "FINISHED")
    for job in range(6):
        assert mine.rows[job] == right.rows[job], job
    assert mine.weights.keys() == right.weights.keys()
    for name, state in right.weights.items():
        assert all(torch.equal(mine.weights[name][key], tensor) for key, tensor in state.items()), name


def until(happened: Callable[[], object], process: forked.Popen) -> None:
    """Wait for a condition on files that another process writes before it ends."""
    while not happened():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
            raise AssertionError(process.communicate()[1])


def rows_of(folder: Path, job: int, epoch: int) -> bool:
    """Whether the job has recorded this epoch."""
    return any(f'"step":{epoch},' in path.read_text() for path in folder.glob(f"runs/*/*/{job}/journal.jsonl"))


def worker_of(folder: Path, job: int) -> int:
    (lock,) = folder.glob(f"runs/*/*/{job}/run.lock")
    while not (text := lock.read_text()):  # it is just being written
        continue
    return int(text)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What new interpreters make, which have another hash seed and an empty folder."""
    folder = tmp_path_factory.mktemp("right")
    subprocess.run(
        [sys.executable, "-m", "reglab", *SWEEP], cwd=folder, env=ENVIRONMENT, capture_output=True, check=True
    )
    return found(folder)


@pytest.fixture
def folder(tmp_path: Path, template: Path) -> Path:
    """A working folder with a store."""
    shutil.copy(template, tmp_path / "reglab.db")
    return tmp_path


def test_the_sweep_is_killed_and_its_worker_ends_in_order(right: Found, folder: Path) -> None:
    process = start(folder)
    until(lambda: rows_of(folder, 3, 4), process)  # the second pack is on its way
    worker = worker_of(folder, 3)
    os.kill(worker, signal.SIGSTOP)  # or it may end its last epochs before it looks for its parent
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # its next look for its parent is due
    os.kill(worker, signal.SIGCONT)
    process.communicate()
    ids = found(folder).runs
    code, said = finish(start(folder))
    assert code == 0, said
    assert "resuming from checkpoints: 3 jobs in 1 pack" in said
    after = found(folder)
    assert {job: run for job, (run, _) in after.runs.items()} == {job: run for job, (run, _) in ids.items()}
    assert_same(after, right)


def test_workers_are_killed_and_preempted_and_then_the_sweep_is(right: Found, folder: Path) -> None:
    process = start(folder)
    until(lambda: rows_of(folder, 0, 2), process)
    first = worker_of(folder, 0)
    os.kill(first, signal.SIGKILL)
    until(lambda: worker_of(folder, 0) != first and rows_of(folder, 0, 4), process)
    os.kill(worker_of(folder, 0), signal.SIGTERM)
    until(lambda: rows_of(folder, 3, 2), process)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 143, said
    assert "was killed (SIGKILL): 3 jobs resume" in said
    assert "was asked to end: 3 jobs resume" in said
    statuses = {job: status for job, (_, status) in found(folder).runs.items()}
    assert statuses == {job: "FINISHED" if job < 3 else "KILLED" for job in range(6)}
    code, said = finish(start(folder))
    assert code == 0, said
    assert_same(found(folder), right)

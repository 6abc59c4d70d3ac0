"""The processes of one job: their variables, and how they end together."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from pytorch_lightning.plugins.environments import TorchElasticEnvironment
from tests.processes.standin_rank import act

from reglab.processes import rank_processes
from reglab.processes.rank_processes import RankFailure, RankProcesses, free_port, rank_environment

LONG = 60  # seconds after which a test that waits has failed


@pytest.fixture
def first_failure(tmp_path):
    """Run ranks with these acts and return the first failure that is reported."""

    def run(*acts):
        reported, failures = threading.Event(), []
        with RankProcesses(len(acts) + 1, 4711, act, (acts, str(tmp_path))) as ranks:
            ranks.on_failure = lambda failure: (failures.append(failure), reported.set())
            assert reported.wait(LONG)
        assert ranks.first_failure == failures[0]
        assert len(failures) == 1
        return failures[0]

    return run


def pids(folder: Path) -> list[int]:
    return [int(file.read_text().split()[0]) for file in sorted(folder.glob("[0-9]"))]


def test_lightning_takes_the_variables_for_torchruns(monkeypatch):
    for name, value in rank_environment(1, 2, 4711).items():
        monkeypatch.setenv(name, value)
    assert TorchElasticEnvironment.detect()
    actual = TorchElasticEnvironment()
    assert actual.creates_processes_externally
    assert (actual.global_rank(), actual.local_rank(), actual.node_rank(), actual.world_size()) == (1, 1, 0, 2)
    assert (actual.main_address, actual.main_port) == ("127.0.0.1", 4711)


def test_a_free_port_can_be_opened():
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_further_ranks_have_their_variables_and_the_own_ones_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with RankProcesses(3, 4711, act, (("end", "end"), str(tmp_path))) as ranks:
        assert os.environ["RANK"] == "7"
        assert "WORLD_SIZE" not in os.environ
        ranks.wait(LONG)
    assert ranks.first_failure is None
    reported = [(tmp_path / rank).read_text().split()[1:] for rank in ("1", "2")]
    assert reported == [["1", "1", "3", "4711"], ["2", "2", "3", "4711"]]


@pytest.mark.parametrize(
    "what, failure",
    [("raise", RankFailure(1, 1, "a bug")), ("asked", RankFailure(1, 143)), ("die", RankFailure(1, -9))],
)
def test_the_first_that_does_not_end_well_is_told_and_none_is_left(what, failure, first_failure, tmp_path):
    assert first_failure(what, "hang") == failure
    assert not any(psutil.pid_exists(pid) for pid in pids(tmp_path))


def fail_as_rank_0(folder):
    with RankProcesses(2, 4711, act, (("hang",), str(folder))) as ranks:
        while not (folder / "1").exists():
            ranks.wait(0.01)
        raise RuntimeError("of rank 0")


def test_a_rank_that_hangs_is_killed_where_rank_0_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_processes, "_EXIT_SECONDS", 1e6)  # which it does not wait for
    with pytest.raises(RuntimeError, match="rank 0"):
        fail_as_rank_0(tmp_path)
    assert not psutil.pid_exists(pids(tmp_path)[0])


START = """
import sys
from reglab.processes.rank_processes import RankProcesses
from tests.processes.standin_rank import act
if __name__ == "__main__":
    with RankProcesses(2, 4711, act, ((sys.argv[1],), sys.argv[2])) as ranks:
        print("started", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def rank_0(tmp_path):
    """Start rank 0 of two in a process of its own; the other does ``what``."""
    (tmp_path / "rank_0.py").write_text(START)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(Path.cwd() / "tests")])}
    started = []

    def start(what):
        arguments = [sys.executable, str(tmp_path / "rank_0.py"), what, str(tmp_path)]
        started.append(subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert started[0].stdout.readline() == b"started\n"
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ranks_end_when_rank_0_is_killed(rank_0, tmp_path):
    process = rank_0("hang")
    (other,) = psutil.Process(process.pid).children()[-1:]
    process.kill()
    process.wait()
    other.wait(LONG)


@pytest.mark.parametrize("what, code", [("die", -9), ("asked", 143), ("raise", 1)])
def test_rank_0_dies_of_what_another_died_of(rank_0, what, code):
    assert rank_0(what).wait(LONG) == code

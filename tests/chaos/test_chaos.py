"""The faults of ``scripts/chaos`` in their short forms; ``scripts/chaos/all`` runs the long ones."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "scripts" / "chaos"

Run = Callable[..., str]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a script in a process that has imported everything.

    A missed aim fails the test with all that it said.
    """
    with subprocess.Popen(
        [sys.executable, str(CHAOS / "short.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def ask(name: str, *arguments: object) -> str:
            server.stdin.write(json.dumps([name, *map(str, arguments)]) + "\n")
            server.stdin.flush()
            code, said = json.loads(server.stdout.readline())
            assert code == 0, said
            return said

        yield ask
        server.stdin.close()


def test_killed_sweeps_end_as_undisturbed_ones(run: Run) -> None:
    assert "2 kills" in run("sweep_kills", "--jobs", 4, "--kills", 2, "--epochs", 20)


def test_nothing_is_lost_at_any_durable_write(run: Run) -> None:
    assert "0 faults" in run("durable_writes", "--deaths", 4)


def test_sigterm_costs_at_most_one_step(run: Run) -> None:
    assert "0 faults" in run("sigterms", "--of", "run", "worker", "--signals", 2, "--epochs", 8)


def test_poisoned_jobs_fail_alone_and_say_why(run: Run) -> None:
    assert "0 faults" in run("poisoned", "--healthy", 4, "--short", "--of", "fused")


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(run: Run) -> None:
    assert "0 faults" in run("damaged", "--places", 1, "--of", "last")


def test_a_full_disk_costs_nothing(run: Run) -> None:
    assert "0 faults" in run("disk", "--tries", 1, "--of", "journal", "store")


def test_training_goes_on_while_the_store_is_locked(run: Run) -> None:
    assert "0 faults" in run("disk", "--of", "lock", "--seconds", 0, "--epochs", 60)

"""A child ends when its parent is killed, however it was started, and is asked to save first."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from reglab.processes.parent_watch import exit_with_parent

LONG = 60  # seconds after which a test that waits has failed
START = """
import sys
from tests.processes import standin_child
if __name__ == "__main__":
    standin_child.start(*sys.argv[1:])
"""


@pytest.fixture
def child(tmp_path):
    """Start a parent that starts a child by ``method``, to do ``what``; kill the parent, return the child."""
    (tmp_path / "parent.py").write_text(START)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}

    def orphaned(method, what):
        arguments = [sys.executable, str(tmp_path / "parent.py"), method, what, str(tmp_path / "told")]
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE) as parent:
            child = psutil.Process(int(parent.stdout.readline()))
            assert child.is_running()
            parent.kill()
        return child

    return orphaned


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "script"])
@pytest.mark.parametrize("what", ["saves", "hangs", "hangs without a signal"])
def test_it_ends_when_its_parent_is_killed(method, what, child, tmp_path):
    child(method, what).wait(LONG)
    asked = (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""
    assert asked == {"saves": "SIGTERM saved", "hangs": "SIGTERM", "hangs without a signal": ""}[what]


def test_what_it_leads_ends_with_it(child, tmp_path):
    orphan = child("spawn", "leads a group")
    (other,) = [psutil.Process(int(line)) for line in (tmp_path / "told").read_text().splitlines()]
    orphan.wait(LONG)
    other.wait(LONG)


def test_a_watch_that_is_over_ends_nothing():
    before = threading.enumerate()
    over = threading.Event()
    exit_with_parent(grace=0, terminate=False, parent_alive=lambda: not over.is_set()).set()
    over.set()
    for watch in set(threading.enumerate()) - set(before):
        watch.join(LONG)

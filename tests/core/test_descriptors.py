"""The budget of file descriptors, in processes with small limits."""

import errno
import subprocess
import sys

import pytest

from reglab.core.descriptors import is_shortage, most_runs
from reglab.core.errors import UserError

RAISE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
from reglab.core.descriptors import limit, most_runs, raise_limit
few = most_runs()
raise_limit()
print(limit(), few, most_runs())
"""
OPEN = """
import pathlib, resource, sys
from reglab.tracking import RunSpec, TrackingSettings, open_runs
import reglab.tracking.local
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
folder = pathlib.Path(sys.argv[1])
try:
    open_runs(TrackingSettings.from_config({"name": "none"}, folder),
              [RunSpec(str(n), folder / str(n), {}, {}, {}) for n in range(40)])
except OSError as error:
    print(error.errno, list(folder.iterdir()))
"""


def said(program: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_limit_is_raised_as_far_as_it_goes_and_counted() -> None:
    assert said(RAISE).split() == ["300", "10", "110"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_runs_that_do_not_fit_are_refused_before_one_is_made(tmp_path) -> None:
    assert said(OPEN, str(tmp_path)).split() == [str(errno.EMFILE), "[]"]


def test_a_shortage_is_known_through_the_errors_made_of_it() -> None:
    wrapped = UserError("cannot write")
    wrapped.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert is_shortage(wrapped)
    assert not is_shortage(OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_there_is_room_for_one_run_at_least(monkeypatch) -> None:
    monkeypatch.setattr("reglab.core.descriptors.limit", lambda: 3)
    assert most_runs() == 1

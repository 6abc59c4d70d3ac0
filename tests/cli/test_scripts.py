"""scripts/setup with a pretended Python: what it asks for, that it asks once, and what it says where it must stop."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for python3 and for the python of the environment that it makes; writes down what pip is asked for.
PRETENDED = """#!/usr/bin/env bash
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"-m pip"*) echo "$*" >>"$LOG" ;;
  *version_info*) exit "${TOO_OLD:-0}" ;;
  *"venv, ensurepip"*) exit "${NO_VENV:-0}" ;;
  *metadata*) exit 1 ;;
  --version) echo "Python 3.9.1" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def setup(tmp_path):
    """Return a function that runs scripts/setup in a copy of what it needs, and the log of what pip was asked for."""
    repository = tmp_path / "a folder"
    (repository / "scripts").mkdir(parents=True)
    for name in ("scripts/setup", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, repository / name)
    python = tmp_path / "python3"
    python.write_text(PRETENDED)
    python.chmod(0o755)
    log = tmp_path / "log"

    def run(*extras, **environment):
        known = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "LOG": str(log)}
        script = str(repository / "scripts/setup")
        done = subprocess.run([script, *extras], capture_output=True, text=True, env=known | environment, cwd="/")
        asked = log.read_text().splitlines() if log.exists() else []
        return done, asked

    run.repository = repository
    return run


def test_torch_comes_first_and_at_the_tested_version(setup):
    done, asked = setup()
    assert done.returncode == 0, done.stderr
    assert asked[0].rpartition(" ")[2].startswith("torch==")
    assert asked[1].endswith(f"-c {setup.repository}/requirements.lock -e {setup.repository}")


def test_a_second_call_asks_for_nothing_until_something_changed(setup):
    _, asked = setup()
    assert setup()[1] == asked
    with (setup.repository / "requirements.lock").open("a") as lock:
        lock.write("\n")
    assert len(setup()[1]) > len(asked)


def test_an_extra_is_asked_for_and_covers_the_plain_installation(setup):
    _, asked = setup("dev")
    assert asked[-1].endswith("[dev]")
    assert setup()[1] == asked


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"TOO_OLD": "1"}, "Python 3.9.1 is too old; reglab needs Python 3.11"),
        ({"NO_VENV": "1"}, "venv module is missing"),
        ({"PYTHON": "/nowhere/python3"}, "is missing"),
    ],
)
def test_what_is_missing_is_told_in_one_line(setup, environment, message):
    done, asked = setup(**environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not asked

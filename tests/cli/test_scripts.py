"""scripts/setup with a pretended Python.

What it asks for, that it asks once, and what it says where it must stop.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for python3 and for the python of the environment that it makes; writes down what pip is
# asked for. pip fails at what $FAILS names, with the message $SAYS; torch is there once pip
# installed it, and needs CUDA where $CUDA is set.
PRETENDED = """#!/usr/bin/env bash
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"-m pip"*) echo "$*" >>"$LOG"
    [[ "$*" == *"/${FAILS:-nothing}"* ]] && { echo "$SAYS" >&2; exit 1; }
    [[ "$*" == */torch* ]] && touch "$LOG.torch"; exit 0 ;;
  "- "*) test -f "$LOG.torch" ;;
  *'requires("torch")'*) test -n "${CUDA:-}" ;;
  *version_info*) exit "${TOO_OLD:-0}" ;;
  *"venv, ensurepip"*) exit "${NO_VENV:-0}" ;;
  --version) echo "Python 3.9.1" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def setup(tmp_path):
    """Return a function that runs scripts/setup in a copy of what it needs, and the log of what pip was asked for."""
    repository = tmp_path / "a folder"
    (repository / "scripts").mkdir(parents=True)
    for name in ("scripts/setup", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, repository / name)
    python = executable(tmp_path / "python3", PRETENDED)
    executable(tmp_path / "bin" / "nvidia-smi", '#!/bin/sh\ntest -n "$GPU"\n')
    log = tmp_path / "log"

    def run(*extras, **environment):
        known = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHON": python, "LOG": str(log)}
        script = str(repository / "scripts/setup")
        done = subprocess.run([script, *extras], capture_output=True, text=True, env=known | environment, cwd="/")
        asked = log.read_text().splitlines() if log.exists() else []
        return done, asked

    run.repository = repository
    return run


def sections(asked):
    """The sections of the lock in the order of their installation."""
    return [Path(line.rpartition(" ")[2]).stem for line in asked if " -r " in line]


def test_every_file_must_have_its_hash_and_reglab_comes_last(setup):
    done, asked = setup()
    assert done.returncode == 0, done.stderr
    *locked, editable, check = asked
    assert all("--no-deps --no-build-isolation --require-hashes" in line for line in locked)
    assert editable.endswith(f"--no-deps --no-build-isolation -e {setup.repository}")
    assert check.endswith(" check")


NONE = "ERROR: No matching distribution found for torch==2.13.0+cpu"


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, ["torch-cpu", "build", "run"]),
        ({"GPU": "1", "CUDA": "1"}, ["torch", "cuda", "build", "run"]),
        ({"FAILS": "torch-cpu.lock", "SAYS": NONE, "CUDA": "1"}, ["torch-cpu", "torch", "cuda", "build", "run"]),
    ],
    ids=["without a GPU", "with a GPU", "without a GPU, where the index has no CPU build"],
)
def test_torch_comes_first_and_with_cuda_only_where_it_must(setup, environment, expected):
    done, asked = setup(**environment)
    assert done.returncode == 0, done.stderr
    assert sections(asked) == expected


def test_a_wrong_hash_of_the_cpu_build_is_not_passed_over(setup):
    wrong = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    done, asked = setup(FAILS="torch-cpu.lock", SAYS=wrong)
    assert done.returncode == 1
    assert wrong in done.stderr
    assert "could not install section [torch-cpu] of requirements.lock" in done.stderr
    assert sections(asked) == ["torch-cpu"]


def test_a_failure_tells_how_to_install_without_the_lock(setup):
    done, _ = setup("dev", FAILS="run.lock", SAYS="")
    assert done.returncode == 1
    assert ".venv/bin/python -m pip install -e '.[dev]'" in done.stderr
    assert "dev" not in sections(setup(FAILS="run.lock", SAYS="")[1])  # and no stamp was left


def test_a_second_call_asks_for_nothing_until_something_changed(setup):
    _, asked = setup()
    assert setup()[1] == asked
    with (setup.repository / "requirements.lock").open("a") as lock:
        lock.write("\n")
    again = setup()[1][len(asked) :]
    assert sections(again) == ["build", "run"]  # torch is there


def test_an_extra_is_asked_for_and_covers_the_plain_installation(setup):
    _, asked = setup("dev")
    assert sections(asked)[-1] == "dev"
    assert setup()[1] == asked


@pytest.mark.parametrize(
    "extras, environment, message",
    [
        ([], {"TOO_OLD": "1"}, "Python 3.9.1 is too old; reglab needs Python 3.11"),
        ([], {"NO_VENV": "1"}, "venv module is missing"),
        ([], {"PYTHON": "/nowhere/python3"}, "is missing"),
        (["dve"], {}, "requirements.lock has no section [dve]; it has: build torch-cpu torch cuda run excel dev"),
    ],
)
def test_what_is_missing_is_told_in_one_line(setup, extras, environment, message):
    done, asked = setup(*extras, **environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not asked

"""One run: what is printed and which exit code follows, with a stand-in for training."""

import math
import subprocess
import sys

import pytest

from launchers.standin import task as standin
from reglab.cli.run_mode import compose_command
from reglab.cli.single_run import result, train_one
from reglab.core.errors import UserError
from reglab.launchers import task
from reglab.launchers.events import Ended


@pytest.fixture
def run(hydra, monkeypatch):
    """Give overrides as ``reglab train`` is given them; return the exit code."""
    monkeypatch.setattr(task, "train", standin)

    def run(*overrides):
        _, config = compose_command(hydra, "train", list(overrides), False)
        return train_one(hydra, "train", config)

    return run


@pytest.mark.parametrize("act, code, part", [("finish", 0, "val/loss"), ("diverge", 1, "diverged at step 7")])
def test_the_exit_code_says_how_it_ended(run, capsys, act, code, part):
    assert run(f"act={act}") == code
    assert part in capsys.readouterr().out


def test_bad_input_is_raised_without_a_word_of_hydras(run, capsys):
    with pytest.raises(UserError, match="got -1"):
        run("act=refuse")
    assert "Error executing job" not in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the run's folder cannot be created .* another hydra\.run\.dir"):
        run("act=finish", f"hydra.run.dir={tmp_path}/file/run")


def test_the_result_shows_the_gap_with_its_interval():
    metrics = {"val/loss": 0.5, "gap/loss": 0.25, "gap/loss_low": 0.125, "gap/loss_high": 0.375}
    text = result(Ended(0, "FINISHED", run_id="abc", metrics=metrics))
    assert text.splitlines()[0] == "run abc: FINISHED"
    assert "gap/loss       0.25  [0.125, 0.375]" in text
    assert "Overfits" in text


def test_a_gap_without_an_interval_is_told_as_that():
    metrics = {"val/loss": 0.5, "gap/loss": 0.25, "gap/loss_low": math.nan, "gap/loss_high": math.nan}
    text = result(Ended(0, "FINISHED", run_id="abc", metrics=metrics))
    assert "gap/loss       0.25\n" in text
    assert "nan" not in text
    assert "too few errors on the validation part for an interval of the loss" in text


PROGRAM = """
import sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
composed, load = [], ConfigLoaderImpl.load_configuration
ConfigLoaderImpl.load_configuration = lambda *a, **k: composed.append(a) or load(*a, **k)
from reglab.cli.command import main
code = main(sys.argv[1:])
print(code, len(composed), *(name for name in sys.modules if name.startswith("reglab.")), file=sys.stderr)
"""
TRAIN = ("train", "data=wine", "model=linear", "trainer.max_epochs=1", "trainer=cpu", "tracking=none")
# The live table and its lines, and what trains a job.
OF_LAUNCHERS = {"display", "display_state", "packing", "events", "request_launcher", "task"}


def test_a_run_is_composed_once_and_a_resumed_one_never_and_neither_passes_through_a_sweep(tmp_path):
    for words, compositions in ((TRAIN, 1), (["resume", "RUN", "trainer.max_epochs=2"], 0)):
        given = [str(next(tmp_path.glob("runs/*/*"))) if word == "RUN" else word for word in words]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *given], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        code, composed, *modules = done.stderr.splitlines()[-1].split()
        assert (int(code), int(composed)) == (0, compositions)
        assert not [name for name in modules if name.startswith("reglab.sweeps")]
        assert {name.split(".")[2] for name in modules if name.startswith("reglab.launchers.")} <= OF_LAUNCHERS

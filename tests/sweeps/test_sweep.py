"""Sweeps from end to end, with worker processes and a stand-in for training."""

from pathlib import Path

import pytest

from launchers.standin import note_request
from reglab.core.errors import UserError
from reglab.launchers.events import Ended
from reglab.sweeps.sweep import SweepResult, interrupted_message


def test_every_job_runs_with_its_own_config(multirun, capsys):
    result = multirun("optimizer=adam,sgd", "optimizer.lr=1,2")
    assert (result.jobs, result.finished, result.failures) == (4, 4, "")
    assert "4 finished" in capsys.readouterr().err
    lines = [Path("out", str(job), ".hydra", "overrides.yaml").read_text() for job in range(4)]
    assert not any("request" in text or "sweep." in text for text in lines)
    assert [("optimizer=sgd" in text, "optimizer.lr=2" in text) for text in lines] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]


def test_a_failing_job_does_not_stop_the_others(multirun, capsys):
    result = multirun("act=finish,diverge,refuse,crash,die")
    assert isinstance(result, SweepResult)
    assert (result.jobs, result.finished, result.complete) == (5, 1, False)
    for part in ("diverged at step 7", "got -1", "RuntimeError: a bug", "SIGKILL", "memory"):
        assert part in result.failures
    assert "4 failed" in capsys.readouterr().err
    assert "a bug" in Path("out/3/error.txt").read_text()


def test_a_wrong_job_stops_all_before_any_starts(multirun):
    with pytest.raises(UserError, match=r"(?s)1 of 3 jobs cannot run.*strenght.*did you mean 'strength'") as told:
        multirun("sweep.blocks=[{regularizer:[]},{regularizer:[l1],regularizer.l1.strenght:1},{regularizer:[l2]}]")
    assert "\n      (job 1: regularizer=[l1]" in str(told.value)
    assert not Path("out").exists()


def test_several_devices_in_a_sweep_are_refused_before_any_job_starts(multirun):
    with pytest.raises(UserError, match=r"trainer\.devices=2: jobs of a sweep train on one device"):
        multirun("+trainer.devices=1,2")
    assert not Path("out").exists()


def test_the_request_is_told_to_every_job(hydra):
    words = ["experiment=study", f"folder={Path.cwd()}", "hydra.launcher.workers=2"]
    result = hydra.multirun("train", note_request, words)
    assert result.jobs == 2 * (1 + 3)
    texts = [Path(f"request-{job}").read_text() for job in range(8)]
    assert all(f"parent='{result.parent_id}'" in text for text in texts)
    assert ["block='l1+dropout'" in text for text in texts] == [False, True, True, True] * 2
    texts = [Path("out", str(job), ".hydra", "overrides.yaml").read_text() for job in range(8)]
    assert [("seed=0" in text, "seed=1" in text) for text in texts] == [(True, False)] * 4 + [(False, True)] * 4


def test_hydras_own_launcher_runs_a_sweep_too(hydra, capsys):
    from launchers.standin import task

    result = hydra.multirun("train", task, ["act=finish,diverge", "hydra/launcher=basic", "hydra.mode=MULTIRUN"])
    assert (result.jobs, result.finished) == (2, 1)
    assert "diverged" in result.failures


def test_without_mlflow_the_same_command_runs_everything_again(multirun, capsys):
    assert [multirun("seed=0,1").finished for _ in range(2)] == [2, 2]
    told = capsys.readouterr().err
    assert told.count("2 finished") == 2
    assert "resuming the sweep" not in told


def test_an_interrupt_says_what_is_kept_and_how_to_go_on():
    found = {0: Ended(0, "FINISHED"), 1: Ended(1, "KILLED"), 4: Ended(4, "FINISHED")}
    text = interrupted_message(found, 6, "abc")
    assert text.startswith("Interrupted: 2 of 6 jobs finished")
    assert interrupted_message({}, 6, "abc").startswith(
        "Interrupted: none of 6 jobs finished; what all of them recorded is kept."
    )
    assert "reglab report abc" in text
    assert text.endswith("To run the rest, give the same command again, or: reglab resume abc")
    assert interrupted_message(found, 6, "abc", fresh=True).endswith(
        "the same command again, without sweep.again=true."
    )
    assert "reglab report" not in interrupted_message({}, 6, "abc")
    assert interrupted_message(found, 6, None).endswith("To run the whole sweep, give the same command again.")

"""reglab train model=lightning as commands: a sweep to its report, two processes, the package lightning, a stop."""

import importlib.util
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

import forked
import reglab
from training.job_case import Case
from training.lightning import own_project
from training.lightning.module_case import rows, state
from training.lightning.own_project import CLASSES

NET = "{_target_: own.Net, width: 6}"
ADAM = "{_target_: torch.optim.Adam, _partial_: true, lr: 0.02}"
MODULE = ("model=lightning", "model._target_=own.Classifier", f"+model.net={NET}", f"+model.optimizer={ADAM}")
DATA = ("data=lightning", "data._target_=own.PointsModule", "+data.batch_size=6", "trust=[own]")
SHORT = ("trainer.max_epochs=2", "trainer.accelerator=cpu")


@pytest.fixture
def project(case: Case) -> Path:
    """A working folder with the project's module in it."""
    shutil.copy(own_project.__file__, case.folder / "own.py")
    return case.folder


def started(folder: Path, *words: str) -> forked.Popen:
    return forked.Popen(["-m", "reglab", "train", *words], cwd=folder, env={**os.environ, "COLUMNS": "120"})


def output(folder: Path, *words: str, code: int = 0) -> str:
    process = started(folder, *words)
    told = "".join(process.communicate())
    assert process.returncode == code, told
    return told


def test_a_sweep_ends_with_a_choice_its_test_and_a_report(project: Path, case: Case) -> None:
    blocks = 'sweep.blocks=[{regularizer: []}, {regularizer: [l2], regularizer.l2.strength: "1e-3,1e-1"}]'
    command = ("-m", *MODULE, *DATA, *SHORT, blocks, "sweep.seeds=1")
    told = output(project, *command)
    assert "3 jobs train one by one: a LightningModule trains by its own steps" in told
    assert "3 finished" in told
    assert "On the test set" in told
    assert len(list(project.glob("runs/*/*/report.html"))) == 1
    examples = list(project.glob("runs/*/*/*/examples.npz"))
    assert len(examples) == 3
    again = output(project, *command)
    assert "3 of 3 jobs are finished, 0 to run" in again


def test_a_faulty_job_is_told_before_any_starts(project: Path) -> None:
    told = output(project, "-m", *MODULE, *DATA, *SHORT, "seed=0,1", "+model.wdith=3", code=2)
    assert "Classifier has no such argument" in told
    assert not list(project.glob("runs/*/*/0"))


def test_a_dry_run_estimates_its_cost(project: Path) -> None:
    told = output(project, "-m", *MODULE, *DATA, *SHORT, "seed=0,1", "sweep.dry=true")
    assert re.search(r"About [\d.]+ minutes, .* of memory at a time, .* on disk", told)
    assert not list(project.glob("runs/*/*/0/run.json"))


def test_two_processes_leave_one_record_and_one_model(project: Path) -> None:
    ranks = ("trainer.devices=2", "trainer.strategy=ddp", "tracking=none", "hydra.run.dir=two", "regularizer=[l1]")
    told = output(project, *MODULE, *DATA, *SHORT, *ranks)
    assert told.count("FINISHED") == 1
    recorded = rows(project / "two")
    assert all(len(values) == 1 for values in recorded.values())
    assert ("val/loss", 2) in recorded


@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="the package lightning is not installed")
def test_a_module_of_the_package_lightning_trains_with_the_same_bits(project: Path) -> None:
    text = (project / "own.py").read_text()
    (project / "twin.py").write_text(text.replace("import pytorch_lightning as pl", "import lightning.pytorch as pl"))
    twin = [word.replace("own", "twin") for word in (*MODULE, *DATA)]
    for folder, words in (("one", (*MODULE, *DATA)), ("other", twin)):
        output(project, *words, *SHORT, "tracking=none", f"hydra.run.dir={folder}", "regularizer=[l2,early_stopping]")
    one, other = state(project / "one"), state(project / "other")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert rows(project / "one") == rows(project / "other")


def test_a_stop_leaves_a_run_that_the_printed_command_resumes(project: Path) -> None:
    words = (*MODULE, *DATA, "trainer.max_epochs=400", "trainer.accelerator=cpu", "tracking=none", "hydra.run.dir=it",
             "trainer.checkpoint_seconds=0")  # fmt: skip
    process = started(project, *words)
    journal = project / "it" / "journal.jsonl"
    while process.poll() is None and not (journal.is_file() and journal.read_text().count('"val/loss"') > 2):
        time.sleep(0.05)  # until there is something to resume
    process.send_signal(signal.SIGINT)
    told = "".join(process.communicate())
    assert process.returncode == 130, told
    command = next(line for line in told.splitlines() if "To resume it:" in line).partition("reglab resume")[2]
    assert (project / "it" / "checkpoints" / "last.ckpt").is_file()
    before = max(epoch for key, epoch in rows(project / "it") if key == "val/loss")
    assert 0 < before < 400
    assert "trust" in command


def test_its_model_is_loaded_in_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output(project, *MODULE, *DATA, *SHORT, "tracking=none", "hydra.run.dir=it")
    monkeypatch.syspath_prepend(project)
    from reglab.config import trust

    with trust.isolated():
        trust.trust("own")
        module = reglab.load(project / "it")
    assert module(torch.zeros(2, own_project.INPUTS)).shape == (2, CLASSES)
    assert not module.training

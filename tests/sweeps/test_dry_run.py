"""What a sweep would run and cost, without running it."""

import re
from pathlib import Path

import pytest
from hydra.types import RunMode

from launchers import standin_pack
from reglab.launchers import task
from reglab.launchers.compose import Composer
from reglab.launchers.request_launcher import Capabilities
from reglab.sweeps.dry_run import Cost, dry_run, estimate, makespan
from reglab.sweeps.sweep import expand_jobs, requests_of


@pytest.fixture
def dry(hydra, monkeypatch, capsys):
    monkeypatch.setattr(task, "try_pack", standin_pack.try_pack)

    def dry(*overrides, launcher="fused", workers=1):
        fixed = [f"hydra/launcher={launcher}", f"hydra.launcher.workers={workers}", "hydra.mode=MULTIRUN"]
        fixed.append("hydra.launcher.preload=[reglab.launchers.worker]")
        master = hydra.compose_config("train", fixed, RunMode.MULTIRUN, with_log_configuration=False)
        requests = requests_of(expand_jobs([*overrides, *fixed[1:2]], master), {})
        can = Capabilities(waits=True, fuses=launcher == "fused", shows_progress=True)
        dry_run(requests, Composer(hydra.config_loader, master), master, can)
        return capsys.readouterr().out

    return dry


def test_packs_who_trains_alone_and_what_it_costs(dry):
    out = dry(
        "sweep.blocks=[]", "+trainer.max_epochs=30", "regularizer=[l1]", "regularizer.l1.strength=1,2", "seed=0,1,2"
    )
    assert "6 jobs on 1 worker, nothing is started:" in out
    assert "pack of 6: l1, " in out
    assert re.search(r"(?=.*seed 0 \.\.\. 2)(?=.*l1\.strength 1 \.\.\. 2)", out)
    # three seconds to begin with, ten steps of a second, and 30 epochs that take two seconds each
    assert "About 1.2 minutes, 3.0 GB of memory at a time, 6 MB on disk" in out
    assert not list(Path().iterdir())


def test_jobs_alone_have_their_own_step(dry):
    out = dry("seed=0,1", launcher="local")
    assert "  alone: none x 2: seed 0 ... 1" in out
    assert "nothing to fuse" not in out
    assert "About 0.3 minutes" in out  # 2 jobs: 3 seconds, ten steps of half a second and an epoch of 2 seconds each


def test_reasons_are_shown(dry):
    out = dry("act=lstm", "seed=0,1,2")
    assert f"3 jobs train one by one: {standin_pack.LSTM}" in out
    assert "  alone: none x 3: seed 0 ... 2" in out
    assert "precision=bf16-mixed" in dry("+trainer.precision=bf16-mixed", "seed=0,1")


def test_groups_are_tried_apart(dry):
    out = dry("act=zero", "optimizer.lr=0,0,1,2")
    assert out.count("pack of 2: ") == 2
    assert "4 jobs train in 2 packs: a learning rate of 0" in out


@pytest.mark.parametrize("act, said", [("crash", "RuntimeError: a bug"), ("negative", "optimizer.lr must be > 0")])
def test_without_an_estimate_the_plan_still_shows(dry, act, said):
    out = dry(f"act={act}", "optimizer.lr=-1,-2")
    assert "pack of 2: none, optimizer.lr -2 ... -1" in out
    assert f"No estimate for some jobs: {said}" in out
    assert "About" not in out


def test_two_workers_end_with_the_slower_one():
    assert makespan([5, 3, 3, 1], workers=2) == 6
    assert makespan([5], workers=3) == 5


def test_what_was_not_tried_counts_as_the_mean():
    (line,) = estimate([Cost(60, 2e9, 1e6), None], workers=1)
    assert "About 2.0 minutes, 2.0 GB of memory at a time, 2 MB on disk" in line
    assert estimate([None], workers=1) == []
    (line,) = estimate([Cost(60, 2e8, 1e6), Cost(60, 1e8, 1e6)], workers=2)
    assert "About 1.0 minutes, 300 MB" in line

"""Numbers that cannot matter are told before training, once: by the job itself, or by its sweep for
all of its jobs.
"""

import logging

import laws_harness as harness
import pytest
from omegaconf import OmegaConf

import reglab
from reglab.config.job_request import JobRequest
from reglab.regularizers import EMA, Regularizer
from reglab.sweeps.blocks import Job
from reglab.sweeps.data_check import check_data
from reglab.training.preflight import Findings, advice, log_advice
from training.job_case import Case, config

IDLE = "regularizer.ema: in a run of {} steps no decay above {} has an effect"


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "no decay above" in record.getMessage()]


def test_the_steps_are_those_of_the_whole_job():
    job = harness.experiment({"ema": EMA(0.99)}, epochs=3, batch_size=10)  # 44 rows: 5 steps an epoch
    (line,) = advice(job.cocktail, harness.ROWS, job.recipe)
    assert line.startswith(IDLE.format(15, 0.625))
    (line,) = advice(job.cocktail, harness.ROWS, job.recipe, accumulate=2)  # 3 steps, of 20 rows
    assert line.startswith(IDLE.format(9, 0.5))
    assert advice(harness.experiment({"ema": EMA(0.6)}).cocktail, harness.ROWS, job.recipe) == []
    assert advice(harness.experiment({"ema": EMA(0.999, warmup=0)}).cocktail, harness.ROWS, job.recipe) == []


@pytest.mark.parametrize("name", harness.NAMES)
def test_no_other_method_says_anything_of_its_defaults(name):
    job = harness.experiment(harness.members(name))
    assert advice(job.cocktail, 100_000, job.recipe) == []


def test_a_job_says_it_alone_and_not_in_a_sweep(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    case, local = Case(tmp_path), ("regularizer=[ema]", "regularizer.ema.strength=0.999", "tracking=none")
    assert case.train(*local).status == "FINISHED"
    assert len(warnings_of(caplog)) == 1
    caplog.clear()
    assert case.train(*local, request=JobRequest(0, parent="p")).status == "FINISHED"
    assert warnings_of(caplog) == []


def test_the_library_says_it(caplog):
    with caplog.at_level(logging.WARNING):
        reglab.fit(harness.small_model(), harness.blobs(), [EMA(0.999)], epochs=1, trainer={"accelerator": "cpu"})
    assert warnings_of(caplog)[0].startswith(IDLE.format(2, 0.1818))


def test_a_sweep_says_it_once_with_how_many_jobs_it_is_true_of(capsys):
    jobs = [Job(number, "ema", ()) for number in range(3)]

    class Composed:
        def resolved(self, overrides):
            return {}

    master = OmegaConf.create({"hydra": {"launcher": {"workers": 1}}})
    findings = Findings({}, {"idle": [0, 1], "all": [0, 1, 2]}, {})
    check_data(jobs, Composed(), master, check=lambda *_: findings)
    assert capsys.readouterr().err == "idle (2 of 3 jobs)\nall\n"


def test_a_members_own_advice_is_asked_with_its_name():
    class Picky(Regularizer):
        def advice(self, steps):
            return f"{steps} steps are odd" if steps % 2 else None

    job = harness.experiment({"mine": Picky()}, epochs=1, batch_size=10)
    assert advice(job.cocktail, harness.ROWS, job.recipe) == ["regularizer.mine: 5 steps are odd"]


def test_nothing_is_told_twice_by_ranks(caplog, monkeypatch):
    from lightning_utilities.core.rank_zero import rank_zero_only

    job = harness.experiment({"ema": EMA(0.99)}, epochs=1)
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    log_advice(job)
    assert warnings_of(caplog) == []
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    log_advice(job)
    assert len(warnings_of(caplog)) == 1
    assert config("regularizer=[ema]").regularizer.ema.warmup == 9.0

"""Callbacks of the user's: they see each step, change nothing, are resumed; others are refused by name."""

import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from reglab.config import trust
from reglab.core.errors import UserError
from reglab.launchers.packing import plan
from reglab.tracking.folder import JOURNAL
from reglab.tracking.journal import Journal
from reglab.training import checkpoint_files, job
from reglab.training.own_callbacks import build_callbacks
from reglab.training.preflight import check_jobs
from reglab.training.solo import Solo
from training.job_case import EPOCHS, Case, config

SMALL = ("tracking=none", "regularizer=[l1]", "trainer.checkpoint_seconds=0", "scheduler=cosine")
WATCH = ("+callbacks.watch._target_=training.watching.Watch", "+callbacks.watch.every=2")
RATE = "+callbacks.lr._target_=pytorch_lightning.callbacks.LearningRateMonitor"
STEPS = 4  # an epoch: 106 rows of wine in batches of 32
Run = Callable[..., Any]


@pytest.fixture
def run(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    def train(*overrides: str, folder: str) -> Any:
        hydra = {"runtime": {"output_dir": str(case.folder / folder)}, "overrides": {"task": list(overrides)}}
        monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))
        return job.run_job(config(*SMALL, *overrides))

    with trust.isolated():
        trust.trust("training")
        yield train


def weights(case: Case, folder: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint_files.read(case.folder / folder / "checkpoints/last.ckpt")["state_dict"]
    return state


def rows(case: Case, folder: str) -> dict[tuple[str, int], float]:
    found = Journal(case.folder / folder / JOURNAL).rows()
    return {(row.key, row.step): row.value for row in found if not row.key.startswith("system/")}


def built(target: str, own_loop: bool = False, **arguments: Any) -> Any:
    with trust.isolated():
        trust.trust("training")
        return build_callbacks({"it": {"_target_": target, **arguments}}, own_loop)


def test_they_see_each_step_and_change_nothing(case: Case, run: Run) -> None:
    run(folder="plain")
    run(*WATCH, RATE, folder="watched")
    plain, watched = weights(case, "plain"), weights(case, "watched")
    assert plain.keys() == watched.keys()
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    before, after = rows(case, "plain"), rows(case, "watched")
    added = {pair: after[pair] for pair in after.keys() - before.keys()}
    assert {pair: after[pair] for pair in before} == before
    last = {epoch: epoch * STEPS for epoch in range(1, EPOCHS + 1)}
    assert {step: value for (key, step), value in added.items() if key == "logged/watch/seen"} == last
    norm = torch.cat([value.flatten() for name, value in watched.items() if name.startswith("model.")]).norm()
    assert added["logged/watch/norm", EPOCHS] == pytest.approx(float(norm), rel=1e-6)
    assert added["logged/lr-Adam", 1] == pytest.approx(1e-2)
    assert {key for key, _ in added} == {"logged/watch/seen", "logged/watch/norm", "logged/lr-Adam"}


def test_one_that_was_interrupted_inside_an_epoch_is_resumed(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = Solo.step

    def signalled(self: Solo, batch: torch.Tensor) -> Any:
        if int(self.cocktail.keys.step) == STEPS + 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    both = (*WATCH, "+callbacks.other._target_=training.watching.Forgetful")
    with monkeypatch.context() as patch:
        patch.setattr(Solo, "step", signalled)
        assert run(*both, folder="it").status == "KILLED"
    with caplog.at_level(logging.WARNING):
        assert run(*both, folder="it").status == "FINISHED"
    assert [record.getMessage() for record in caplog.records] == [
        "The callback Forgetful has no state_dict, so what it counted before is not resumed"
    ]
    run(*both, folder="whole")
    assert rows(case, "it") == rows(case, "whole")
    resumed, whole = weights(case, "it"), weights(case, "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("pytorch_lightning.callbacks.EarlyStopping", r"regularizer=\[early_stopping\]"),
        ("lightning.pytorch.callbacks.ModelCheckpoint", "reglab resume RUN"),
        ("pytorch_lightning.callbacks.StochasticWeightAveraging", r"regularizer=\[ema\]"),
        ("pytorch_lightning.callbacks.GradientAccumulationScheduler", "trainer.accumulate_grad_batches"),
        ("pytorch_lightning.callbacks.LearningRateMonitr", "did you mean 'LearningRateMonitor'"),
        ("pytorch_lightning.trainer.trainer.Trainer", "not trusted"),
        ("training.watching.Mine", r"kind EarlyStopping .*regularizer=\[early_stopping\]"),
        ("training.watching.NoCallback", "not a subclass of pytorch_lightning.Callback"),
        ("training.watching.Validating", "on_validation_end is never called"),
        ("training.watching.Dated", "holds a datetime"),
        ("training.watching.Watcher", "did you mean 'Watch'"),
        ("reglab.regularizers.L1", "not a class that a configuration builds here"),
        ("os.system", "may not name anything in Python's module os"),
        ("training.watching.torch.save", "no module|cannot import|not trusted"),
        (None, "must be the dotted path"),
    ],
)
def test_what_is_no_observer_is_refused_by_name(target: Any, advice: str) -> None:
    with pytest.raises(UserError, match=f"callbacks.it.*{advice}"):
        built(target)


def test_each_hook_is_called_in_lightnings_own_loop() -> None:
    assert type(built("training.watching.Validating", own_loop=True)[0]).__name__ == "Validating"


@pytest.mark.parametrize(
    ("node", "advice"),
    [
        (3, "must name each callback"),
        ({"a": 3}, "must be a mapping with _target_"),
        ({"a": {"_target_": "training.watching.Watch", "evry": 2}}, "did you mean 'every'"),
        ({name: {"_target_": "training.watching.Watch"} for name in "ab"}, "callbacks.b and callbacks.a have the same"),
    ],
)
def test_a_wrong_node_is_refused(node: Any, advice: str) -> None:
    with trust.isolated():
        trust.trust("training")
        with pytest.raises(UserError, match=advice):
            build_callbacks(node, own_loop=False)


def test_jobs_of_a_sweep_train_alone_and_are_checked_before() -> None:
    jobs = {number: OmegaConf.to_container(config(RATE, f"seed={number}"), resolve=True) for number in range(3)}
    assert plan(jobs).packs == ()  # type: ignore[arg-type]
    assert plan(jobs).lines() == ["3 jobs train one by one: callbacks watch one job at a time"]  # type: ignore[arg-type]
    assert not check_jobs(jobs).faults  # type: ignore[arg-type]
    jobs[1]["callbacks"]["lr"]["_target_"] = "os.system"  # type: ignore[index,call-overload]
    assert list(check_jobs(jobs).faults.values()) == [[1]]  # type: ignore[arg-type]

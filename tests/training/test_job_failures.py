"""Jobs that do not finish: what is refused before a run is opened, and what a run says that was
opened.
"""

import signal
from typing import Any

import pytest
from omegaconf import OmegaConf

from reglab.core.errors import UserError
from reglab.core.markdown import plain
from reglab.training import restore
from training.job_case import Case

L1 = "regularizer=[l1]"


@pytest.mark.parametrize(
    "overrides, message",
    [
        ([L1, "regularizer.l1.strength=-0.1"], "regularizer.l1: strength must be finite and >= 0, got -0.1"),
        ([L1, "+regularizer.l1.strenth=1"], "regularizer.l1.strenth: L1 has no such argument; did you mean 'strength'"),
        (["+regularizer.l9.strength=1"], r"choose it by regularizer=\[l9\]"),
        (["data=diabetes", "regularizer=[label_smoothing]"], "label_smoothing does not fit a regression task"),
        (["optimizer.lr=0"], "optimizer.lr must be > 0, got 0"),
        (["optimizer.lr=fast"], "optimizer.lr must be > 0, got 'fast'"),
        (["+optimizer.amsgrd=true"], "optimizer.amsgrd.* did you mean 'amsgrad'"),
        (["scheduler=step", "scheduler.interval=week"], "scheduler.interval must be step or epoch, got week"),
        (["seed=-1"], "seed must be an integer >= 0, got -1"),
        (["seed=1.5"], "seed must be an integer >= 0, got 1.5"),
        (["trainer.max_epochs=0"], "trainer.max_epochs must be an integer >= 1, got 0"),
        (["data.batch_size=0"], "data.batch_size must be .* >= 1, got 0"),
        (["trainer.gradient_clip_norm=-1"], "must be null or > 0, got -1"),
        (["+trainer.max_epoch=1"], "did you mean 'max_epochs'"),
        (["trainer.precision=33"], "Precision 33"),
        (["trainer.accelerator=gpus"], "trainer: .*gpus"),
        (["measure.monitor=val/acuracy"], "did you mean 'val/accuracy'"),
        (["measure.monitor=val/weighted_loss"], "a classification task whose rows all count alike"),
        (["measure.scores=[rmse]"], "rmse is a score of regression, and the task is classification"),
        (["measure.every=0"], "measure.every=0 must be an integer >= 1"),
        (["model.width=-3"], "width"),
        (["data=table"], "data.path is not set"),
        (["seed=${nowhere}"], "config: .*nowhere"),
        (["model.norm=batch", "data.batch_size=1"], "a step has one row, and BatchNorm needs two: .*data.batch_size=2"),
    ],
)
def test_bad_input_is_refused_before_a_run_is_opened(case: Case, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        case.train(*overrides)
    assert "\n" not in str(raised.value).strip()
    assert case.runs() == []
    assert not (case.folder / "runs").exists()


def test_a_diverging_loss_fails_with_step_and_cause(case: Case) -> None:
    result = case.train("data=diabetes", "optimizer=sgd", "optimizer.lr=1e6")
    run = case.run(result.run_id)
    assert (result.status, run.info.status) == ("FAILED", "FAILED")
    assert "step 2 (epoch 1)" in result.message
    assert "learning rate of 1e+06" in result.message
    assert "optimizer.lr ten times smaller" in result.message
    assert run.data.tags["reglab.failure"] == "diverged"
    assert run.data.tags["reglab.message"] == result.message
    assert plain(result.message) in run.data.tags["mlflow.note.content"]
    assert result.metrics == {}
    assert not any(key.startswith("final/") for key in run.data.metrics)
    assert sorted(case.steps(result.run_id, "val/loss")) == [0]


class Pressed:
    """Raises in epoch 2 what it is given."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, progress: Any) -> None:
        if progress.epoch == 2:
            raise self.error


def press_in_epoch_2(progress: Any) -> None:
    """As a user who presses Ctrl-C."""
    if progress.epoch == 2:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_ends_the_run_killed_and_keeps_what_was_measured(case: Case) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = case.train(on_progress=press_in_epoch_2)
    assert (result.status, case.run(result.run_id).info.status) == ("KILLED", "KILLED")
    assert result.message == case.run(result.run_id).data.tags["reglab.message"] == "interrupted"
    assert sorted(case.steps(result.run_id, "val/loss")) == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_bug_fails_the_run_and_is_raised(case: Case) -> None:
    with pytest.raises(ZeroDivisionError):
        case.train(on_progress=Pressed(ZeroDivisionError("a bug")))
    (run,) = case.runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["reglab.message"] == "ZeroDivisionError: a bug"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["+trainer.gradient_clip_val=1"], r"give trainer\.gradient_clip_norm"),
        (["+trainer.gradient_clip_algorithm=value"], r"give trainer\.gradient_clip_norm"),
        ([L1, "regularizer.l1.where='haed.*'"], r"regularizer.l1: where='haed.\*'.*head"),
    ],
)
def test_what_is_found_only_in_training_is_bad_input_too(case: Case, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        case.train(*overrides)
    assert all(run.info.status == "FAILED" for run in case.runs())


def test_an_optimizer_of_unknown_step_size_trains_but_not_under_a_proximal_member(case: Case) -> None:
    rprop = "optimizer._target_=torch.optim.Rprop"
    assert case.train(rprop, "regularizer=[l2,ema]").status == "FINISHED"
    with pytest.raises(UserError, match="proximal steps do not fit Rprop"):
        case.train(rprop, L1)
    assert len(case.runs()) == 1  # told before the second run was opened


def test_a_secret_of_the_environment_is_written_nowhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the run's folder, nor in its checkpoints, nor in the store."""
    secret = "s3cr3t-t0ken"
    monkeypatch.setenv("A_TOKEN", secret)
    monkeypatch.setenv("A_SEED", "5")
    monkeypatch.setenv("REGLAB_TRUST", "training")
    result = case.train(
        "model=custom",
        "model._target_=training.job_case.Tokened",
        "+model.token=${oc.env:A_TOKEN}",
        "seed='${oc.decode:${oc.env:A_SEED}}'",
        "trainer.steps_per_batch=${seed}",
    )
    assert result.status == "FINISHED"
    files = [file for file in case.folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".ckpt" for file in files)
    assert any(b"oc.env:A_TOKEN" in file.read_bytes() for file in files if file.suffix == ".ckpt")
    assert [file for file in files if secret.encode() in file.read_bytes()] == []
    assert case.run(result.run_id).data.params["model.token"] == "${oc.env:A_TOKEN}"
    assert case.run(result.run_id).data.tags["reglab.seed"] == "5"
    monkeypatch.chdir(case.folder)
    assert restore.load(result.run_id).weight.shape == (3, 13)
    monkeypatch.delenv("A_TOKEN")
    with pytest.raises(UserError, match=r"config of the run, model: .*A_TOKEN"):
        restore.load(result.run_id)


def test_the_params_hold_the_config_as_it_was_written(case: Case) -> None:
    result = case.train("trainer.max_epochs=1", "measure.probe_rows=${data.batch_size}")
    assert case.run(result.run_id).data.params["measure.probe_rows"] == "${data.batch_size}"
    written = OmegaConf.load(case.artifacts(result.run_id) / "config.yaml")
    assert OmegaConf.to_container(written)["measure"]["probe_rows"] == "${data.batch_size}"

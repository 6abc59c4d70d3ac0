"""A job whose run was cut short goes on: the same run, the same weights, every row once."""

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from file_reads import file_reads
from hydra.core.hydra_config import HydraConfig
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from omegaconf import OmegaConf

from reglab.cli.resume import resume
from reglab.core.errors import UserError
from reglab.core.signals import Interrupted
from reglab.tracking import run_state
from reglab.tracking.folder import JOURNAL, read_identity
from reglab.tracking.journal import Journal
from reglab.training import checkpoint_files, job
from reglab.training.checkpoints import resumable
from reglab.training.job_result import JobResult
from reglab.training.solo import Solo
from training.job_case import EPOCHS, Case, config

MIX = ("regularizer=[l1,dropout]", "regularizer.l1.strength=1e-2", "trainer.checkpoint_seconds=0", "model.width=4")
Run = Callable[..., JobResult]


class Cut(BaseException):
    """Stands for what ends a process."""


@pytest.fixture
def run(case: Case, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train the small job in ``folder``, as a sweep would; ``cut`` raises ``error`` at the end of
    that epoch.
    """

    def run(*overrides: str, folder: str = "it", cut: int | None = None, error: type[BaseException] = Cut) -> JobResult:
        hydra = {"runtime": {"output_dir": str(case.folder / folder)}, "overrides": {"task": list(overrides)}}
        monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))

        def cutting(progress: Any) -> None:
            if progress.epoch == cut:
                raise error

        return job.run_job(config(*MIX, *overrides), cutting)

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint_files.read(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def rows(folder: Path) -> dict[tuple[str, int], float]:
    actual = [row for row in Journal(folder / JOURNAL).rows() if not row.key.startswith("system/")]
    assert len({(row.key, row.step) for row in actual}) == len(actual)
    return {(row.key, row.step): row.value for row in actual}


def assert_equal(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert rows(first) == rows(second)


@pytest.mark.parametrize("cut", [0, 1, 2, EPOCHS])
def test_the_same_job_goes_on_as_the_same_run(case: Case, run: Run, cut: int) -> None:
    with pytest.raises(Cut):
        run(cut=cut)
    first = read_identity(case.folder / "it").run_id
    result = run()
    run(folder="whole")
    assert (result.status, result.run_id) == ("FINISHED", first)
    assert_equal(case.folder / "it", case.folder / "whole")
    assert case.run(first).info.status == "FINISHED"
    assert case.run(first).data.tags[run_state.RESUMED] == "1"
    assert sorted(case.steps(first, "val/loss")) == list(range(EPOCHS + 1))


def test_each_checkpoint_file_is_hashed_once_and_loaded_once(case: Case, run: Run) -> None:
    with pytest.raises(Cut):
        run(cut=3)
    checkpoints = case.folder / "it" / "checkpoints"
    assert (checkpoints / "last.previous.ckpt").exists()  # which is not needed
    (unchanged,) = checkpoints.glob("unchanged-*.pt")
    with file_reads(checkpoints) as opened:
        run()
    assert opened == {"last.ckpt": 2, "best.ckpt": 2, unchanged.name: 2}


def test_a_resumed_run_does_not_keep_what_it_loaded(case: Case, run: Run) -> None:
    with pytest.raises(Cut):
        run(cut=3)
    found = resumable(case.folder / "it" / "checkpoints")
    assert found is not None
    assert found.take()["state_dict"]
    assert not found.take()


def test_a_finished_run_is_not_gone_on_with(case: Case, run: Run) -> None:
    first, second = run(), run()
    assert first.run_id != second.run_id


def test_another_job_in_the_same_folder_is_another_run(case: Case, run: Run) -> None:
    with pytest.raises(Cut):
        run(cut=1)
    first = read_identity(case.folder / "it").run_id
    assert run("seed=1").run_id != first


def test_a_diverged_run_is_not_repeated(case: Case, run: Run) -> None:
    result = run("optimizer=sgd", "optimizer.lr=1e30")
    assert result.status == "FAILED"
    with pytest.raises(UserError, match="only repeat"):
        resume(["it"])


def test_a_damaged_checkpoint_and_the_one_before_it_and_both(case: Case, run: Run) -> None:
    run(folder="whole")
    for damaged in (("last",), ("last", "last.previous"), ("best",), ("last", "last.previous", "best")):
        shutil.rmtree(case.folder / "it", ignore_errors=True)
        with pytest.raises(Cut):
            run(cut=3)
        for name in damaged:
            path = case.folder / "it" / "checkpoints" / f"{name}.ckpt"
            path.write_bytes(path.read_bytes()[:-100] + b"\1" * 100)
        run()
        assert_equal(case.folder / "it", case.folder / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_ends_the_run_killed(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    step = Solo.step

    def signalled(self: Solo, batch: torch.Tensor) -> Any:
        if int(self.cocktail.keys.step) == 6:
            signal.raise_signal(number)
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Solo, "step", signalled)
        result = run()
    assert (result.status, result.message) == ("KILLED", "interrupted")
    assert case.run(result.run_id).info.status == "KILLED"
    assert int(weights(case.folder / "it")["cocktail.keys.step"]) == 7  # the step that it was in, no more
    assert run().run_id == result.run_id
    run(folder="whole")
    assert_equal(case.folder / "it", case.folder / "whole")


def test_a_second_signal_ends_it_at_once_with_the_checkpoint_before(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Solo.step

    def signalled(self: Solo, batch: torch.Tensor) -> Any:
        if int(self.cocktail.keys.step) == 6:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Solo, "step", signalled)
        assert run().status == "KILLED"
    assert int(weights(case.folder / "it")["cocktail.keys.step"]) < 6
    run()
    run(folder="whole")
    assert_equal(case.folder / "it", case.folder / "whole")


def test_resume_by_its_folder_where_it_was_started(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cut=1, error=Interrupted).status == "KILLED"
    run(folder="whole")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    (case.folder / "elsewhere").mkdir()
    monkeypatch.chdir(case.folder / "elsewhere")  # what lies there is no code of the user's
    with pytest.raises(UserError, match=f"cd {case.folder};"):
        resume(["../it"])
    assert resume(["--here", "../it"]) == 0
    assert "FINISHED" in capsys.readouterr().out
    assert_equal(case.folder / "it", case.folder / "whole")
    with file_reads(case.folder / "it") as opened:
        assert resume([str(case.folder / "it")]) == 0
    assert opened[JOURNAL] == 1
    assert "is finished" in capsys.readouterr().out


def test_a_working_folder_that_was_moved_goes_on_where_it_is(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(cut=1, error=Interrupted).status == "KILLED"
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    SqlAlchemyStore._engine_map.clear()
    moved = case.folder.with_name("moved")
    shutil.move(case.folder, moved)
    monkeypatch.chdir(moved)
    with pytest.raises(UserError, match="if all of it was moved here, add --here"):
        resume(["it"])
    assert resume(["--here", "it"]) == 0
    with closing(sqlite3.connect(moved / "reglab.db")) as store:
        ((status, artifacts),) = store.execute("SELECT status, artifact_uri FROM runs").fetchall()
    assert status == "FINISHED"
    assert artifacts.startswith(f"{moved.as_uri()}/")
    assert not case.folder.exists()
    monkeypatch.chdir(moved.parent)
    moved.rename(case.folder)  # where the fixture looks


def test_a_finished_run_is_extended_to_what_a_longer_one_is(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run().run_id
    run("trainer.max_epochs=5", folder="whole")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert resume(["it", "trainer.max_epochs=5"]) == 0
    short, whole = rows(case.folder / "it"), rows(case.folder / "whole")
    assert {key: value for key, value in short.items() if key[1] != 3 or not key[0].startswith("final/")} == whole
    ours, theirs = weights(case.folder / "it"), weights(case.folder / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    tags = case.run(first).data.tags
    assert tags[run_state.EXTENDED] == "from 3 to 5 epochs"
    assert case.metrics(first)["final/epoch"] == 5
    assert OmegaConf.load(case.artifacts(first) / "config.yaml").trainer.max_epochs == 5


def test_an_extended_run_keeps_to_its_budget_of_points(case: Case, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("tracking.points=4").run_id
    assert sorted(case.steps(first, "val/loss")) == [0, 1, 2, 3]
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert resume(["it", "trainer.max_epochs=12"]) == 0
    assert sorted(case.steps(first, "val/loss")) == [0, 1, 2, 3, 4, 8, 12]  # what was sent, and four over all
    assert "metrics.parquet" in case.run(first).data.tags["reglab.points"]


def test_a_run_goes_on_elsewhere(run: Run, case: Case) -> None:
    first = run().run_id
    elsewhere = ["trainer.devices=auto", "trainer.strategy=auto", "trainer.num_nodes=1", "trainer.accelerator=cpu"]
    assert resume(["it", "trainer.max_epochs=5", *elsewhere]) == 0
    assert max(case.steps(first, "val/loss")) == 5


@pytest.mark.parametrize(
    "words, message",
    [
        (["it", "optimizer.lr=1"], "keeps its configuration"),
        (["it", "trainer.max_epoch=9"], "except trainer.max_epochs, "),
        (["it", "trainer.max_epochs=1"], "give a larger number"),
        (["it", "trainer.max_epochs=ten"], "give a whole number of epochs"),
        (["missing"], "no run 'missing'"),
    ],
)
def test_what_cannot_be_resumed_so_is_told(case: Case, run: Run, words: list[str], message: str) -> None:
    run()
    with pytest.raises(UserError, match=message):
        resume(words)


def test_a_stretched_schedule_is_not_extended(case: Case, run: Run) -> None:
    run("scheduler=cosine")
    with pytest.raises(UserError, match="cannot be extended"):
        resume(["it", "trainer.max_epochs=9"])


def test_changed_data_are_refused(case: Case, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (case.folder / "table.csv").write_text("a,b,y\n" + "".join(f"{n},{n % 3},{n * 2}\n" for n in range(60)))
    table = ("data=table", "data.path=table.csv", "data.target=y")
    with pytest.raises(Cut):
        run(*table, cut=1)
    (case.folder / "table.csv").write_text("a,b,y\n" + "".join(f"{n},{n % 3},{n * n}\n" for n in range(60)))
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    with pytest.raises(UserError, match="was trained on other data"):
        resume(["it"])


def test_a_death_while_the_best_epoch_was_put_in_its_place_costs_nothing(case: Case, run: Run) -> None:
    with pytest.raises(Cut):
        run(cut=3)
    checkpoints = case.folder / "it" / "checkpoints"
    (checkpoints / "best.ckpt").replace(checkpoints / "best.previous.ckpt")  # the new one was not moved there yet
    found = resumable(checkpoints)
    assert found is not None
    assert found.path == checkpoints / "last.ckpt"
    assert (checkpoints / "best.ckpt").exists()


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_whole_one(case: Case, run: Run) -> None:
    with pytest.raises(Cut):
        run(cut=3)
    last = case.folder / "it" / "checkpoints" / "last.ckpt"
    last.write_bytes(b"cut")
    before = checkpoint_files.previous(last)
    found = resumable(last.parent)
    assert found is not None
    assert found.path == before
    assert not last.exists()


@pytest.mark.parametrize("words", [["it", "trainer.max_epochs"], ["it", "trainer.max_epochs=3,4"]])
def test_a_typo_is_no_traceback(case: Case, run: Run, words: list[str]) -> None:
    run()
    with pytest.raises(UserError, match="max_epochs"):
        resume(words)


def test_a_password_goes_to_no_server_that_a_folder_names(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(cut=1, error=Interrupted).status == "KILLED"
    path = case.folder / "it" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "uri": "http://127.0.0.1:9"}))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    with pytest.raises(UserError, match="--uri http"):
        resume(["it"])


def test_a_run_that_a_regularizer_stopped_is_not_trained_longer_and_says_so(
    case: Case, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = ("regularizer=[l1,dropout,early_stopping]", "regularizer.early_stopping.patience=1", "optimizer.lr=1")
    run(*stopping, "trainer.max_epochs=50")
    before = rows(case.folder / "it")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert resume(["it", "trainer.max_epochs=60"]) == 0
    assert "stopped this run after epoch" in caplog.text
    assert rows(case.folder / "it") == before


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize(
    "length", [("+trainer.max_steps=10",), ("+trainer.max_steps=7", "+trainer.limit_train_batches=3")]
)
def test_a_run_that_ends_inside_an_epoch_resumes_and_ends_there(
    case: Case, run: Run, cut: int, length: tuple[str, ...]
) -> None:
    overrides = ("trainer.max_epochs=null", *length)
    with pytest.raises(Cut):
        run(*overrides, cut=cut)
    result = run(*overrides)
    run(*overrides, folder="whole")
    assert result.status == "FINISHED"
    assert_equal(case.folder / "it", case.folder / "whole")
    content = checkpoint_files.read(case.folder / "it" / "checkpoints" / "last.ckpt")
    assert int(content["state_dict"]["cocktail.keys.step"]) == int(length[0].partition("=")[2])
    assert {step for _, step in rows(case.folder / "it")} == {0, 1, 2, 3}


def test_a_run_that_ends_after_so_many_steps_is_not_extended(case: Case, run: Run) -> None:
    run("trainer.max_epochs=null", "+trainer.max_steps=10")
    with pytest.raises(UserError, match=r"ends after trainer\.max_steps=10 and cannot be extended"):
        resume(["it", "trainer.max_epochs=9"])


def test_no_regularizer_stops_a_run_before_its_least_epochs(case: Case, run: Run) -> None:
    stopping = ("regularizer=[l1,dropout,early_stopping]", "regularizer.early_stopping.patience=1", "optimizer.lr=3")
    stopped = {}
    for least in (1, 6):
        run(*stopping, "trainer.max_epochs=9", f"+trainer.min_epochs={least}", folder=f"least{least}")
        stopped[least] = max(step for _, step in rows(case.folder / f"least{least}"))
    assert stopped[1] < 6 <= stopped[6]


def test_what_an_earlier_version_passed_to_lightning_does_not_stop_a_run(case: Case, run: Run) -> None:
    run("+trainer.max_steps=-1")
    path = case.folder / "it" / "config.yaml"
    config = OmegaConf.load(path)
    OmegaConf.update(config, "trainer.inference_mode", False, force_add=True)
    OmegaConf.save(config, path)
    assert resume(["it", f"trainer.max_epochs={EPOCHS + 1}"]) == 0
    assert max(step for _, step in rows(case.folder / "it")) == EPOCHS + 1

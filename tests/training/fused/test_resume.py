"""A pack that was cut short ends with the bits, the rows and the runs of one that never was."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from file_reads import file_reads
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import PackSettings
from reglab.config.paths import conf_dir
from reglab.core.errors import Unfused
from reglab.tracking import pack_manifest, run_state
from reglab.tracking.folder import JOURNAL, read_identity
from reglab.tracking.journal_lines import lines, metric_rows
from reglab.training import job_result
from reglab.training.fused import job
from reglab.training.fused.autotune import Choices
from reglab.training.fused.pack import Pack
from reglab.training.job import run_job
from reglab.training.job_result import JobResult

EPOCHS, AN_EPOCH = 6, 7
SETTINGS = PackSettings(compile=False, always=True)
COMMON = (
    "data=wine", "data.batch_size=16", "model.width=6", f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu",
    "trainer.steps_per_batch=4", "measure.every=2", "tracking=none",
)  # fmt: skip
PLAIN = ("regularizer=[dropout]", "optimizer.lr=0.01")
STOPPING = ("regularizer=[early_stopping,l2]", "regularizer.early_stopping.patience=1", "measure.every=1")


class Killed(BaseException):
    """Stands for a death that leaves no time for last words."""


def configs(*each: tuple[str, ...], seconds: float = 0) -> list[DictConfig]:
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        return [compose("train", [*COMMON, f"trainer.checkpoint_seconds={seconds}", *local]) for local in each]


def seeds(count: int, *common: str) -> list[tuple[str, ...]]:
    return [(*common, f"seed={number}") for number in range(count)]


def requests(count: int, parent: str = "p") -> list[JobRequest]:
    return [JobRequest(number, parent=parent) for number in range(count)]


def run(composed: list[DictConfig], folder: Path, parent: str = "p") -> dict[int, JobResult]:
    results: dict[int, JobResult] = {}

    def end(index: int, result: JobResult) -> None:
        assert index not in results
        results[index] = result

    folders = [folder / str(number) for number in range(len(composed))]
    job.run_pack(composed, folders, SETTINGS, None, end, requests(len(composed), parent))
    return results


@contextmanager
def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` right after a pack's step of this number, counted from 1."""
    step = Pack.step

    def counted(pack: Pack, *arguments: Any) -> torch.Tensor:
        terms = step(pack, *arguments)
        if pack.done() == number:
            act()
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(Pack, "step", counted)
        yield


def killed(composed: list[DictConfig], folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pack die after so many steps; what its process held, its locks, is gone
    afterwards.
    """

    @contextmanager
    def speechless(*_: object) -> Iterator[None]:
        yield

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch, at_step(monkeypatch, step, die):
        patch.setattr(job, "finalizing", speechless)
        with pytest.raises(Killed):
            run(composed, folder)
    gc.collect()


def asked(composed: list[DictConfig], folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> dict[int, JobResult]:
    """Ask the pack to end during its step of this number."""
    with at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        return run(composed, folder)


def recorded(folder: Path) -> list[tuple[str, int, float]]:
    """Return every metric row of the run, in no order; what is there twice would be seen."""
    rows = [row for line in lines(folder / JOURNAL) for row in metric_rows(line.content)]
    return sorted((row.key, row.step, repr(row.value)) for row in rows if not row.key.startswith("system/"))


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoints/*.ckpt") if ".previous" not in path.name)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
    return state


def assert_same(mine: Path, right: Path, results: dict[int, JobResult], expected: dict[int, JobResult]) -> None:
    """Assert that two packs recorded the same and reached the same weights, bit for bit."""
    assert sorted(results) == sorted(expected)
    for index, wanted in expected.items():
        actual, local, other = results[index], mine / str(index), right / str(index)
        assert (actual.status, actual.message, actual.run_id) == (
            wanted.status,
            wanted.message,
            read_identity(local).run_id,
        )
        assert recorded(local) == recorded(other)
        names = sorted(path.name for path in (other / "checkpoints").glob("*.ckpt") if ".previous" not in path.name)
        assert (
            sorted(path.name for path in (local / "checkpoints").glob("*.ckpt") if ".previous" not in path.name)
            == names
        )
        for name in names:
            ours, theirs = weights(local, name), weights(other, name)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs), (index, name)
    assert not list(mine.rglob("pack*"))


@pytest.fixture(scope="module", autouse=True)
def chosen() -> Iterator[None]:
    """Choose without measuring, which takes as long as all the rest of a pack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "choose", lambda *_: Choices(False, False, {}, 0.0, 0.0, 0.0, 0))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, JobResult]]:
    folder = tmp_path_factory.mktemp("plain")
    return folder, run(configs(*seeds(4, *PLAIN)), folder)


@pytest.mark.parametrize("step", [1, 14, 27])
def test_killed(step: int, plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*seeds(4, *PLAIN))
    killed(jobs, tmp_path, step, monkeypatch)
    actual = pack_manifest.read(tmp_path / "0")
    assert actual is not None
    assert actual.steps == (step - 1) // AN_EPOCH * AN_EPOCH  # of the last epoch's end
    ids = actual.runs
    results = run(jobs, tmp_path)
    assert tuple(results[index].run_id for index in range(4)) == ids
    assert_same(tmp_path, plain[0], results, plain[1])


def test_a_packs_checkpoint_is_hashed_once_and_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*seeds(2, *PLAIN), seconds=1e6)
    asked(jobs, tmp_path, 10, monkeypatch)
    with file_reads(tmp_path / "0") as opened:
        run(jobs, tmp_path)
    assert (opened["pack.ckpt"], opened["pack.previous.ckpt"]) == (2, 0)


@pytest.mark.parametrize("step", [7, 10])
def test_asked_to_end(step: int, plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*seeds(4, *PLAIN), seconds=1e6)
    results = asked(jobs, tmp_path, step, monkeypatch)
    assert {(result.status, result.message) for result in results.values()} == {("KILLED", "interrupted")}
    actual = pack_manifest.read(tmp_path / "0")
    assert actual is not None
    assert actual.steps == step  # not a step further
    assert_same(tmp_path, plain[0], run(jobs, tmp_path), plain[1])


def test_again_and_again(plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*seeds(4, *PLAIN))
    for step in (5, 14, 20, 41):
        (asked if step % 2 else killed)(jobs, tmp_path, step, monkeypatch)
    assert_same(tmp_path, plain[0], run(jobs, tmp_path), plain[1])


@pytest.mark.parametrize("seconds, step", [(0, 25), (1e6, 25), (1e6, 39)])
def test_members_that_stop_before_and_after_the_checkpoint(
    seconds: float, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = configs(*(("optimizer.lr=" + lr, *STOPPING) for lr in ("1", "0.3", "1e-2", "1e-3", "2e-3")), seconds=seconds)
    expected = run(jobs, tmp_path / "right")
    ended = [max(row[1] for row in recorded(tmp_path / "right" / str(index))) for index in range(5)]
    assert min(ended) <= 3 < max(ended) == EPOCHS  # some before the death, some after it
    killed(jobs, tmp_path / "mine", step, monkeypatch)
    assert_same(tmp_path / "mine", tmp_path / "right", run(jobs, tmp_path / "mine"), expected)


def test_a_member_that_diverges_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = "scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, interval: step}"
    jobs = configs(
        *(("optimizer=sgd", f"optimizer.lr={lr}", f"+{schedule}") for lr in ("0.1", "3e37", "0.01")), seconds=1e6
    )
    expected = run(jobs, tmp_path / "right")
    assert [expected[index].status for index in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    asked(jobs, tmp_path / "mine", 1, monkeypatch)  # cuts the chunk in which it diverges
    killed(jobs, tmp_path / "mine", 20, monkeypatch)
    assert_same(tmp_path / "mine", tmp_path / "right", run(jobs, tmp_path / "mine"), expected)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = configs(*seeds(4, *PLAIN))
    killed(jobs, tmp_path, 17, monkeypatch)
    damage(tmp_path / "0" / "pack.ckpt")
    assert_same(tmp_path, plain[0], run(jobs, tmp_path), plain[1])


def test_without_any_whole_checkpoint_who_is_left_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*(("optimizer.lr=" + lr, *STOPPING) for lr in ("1", "0.3", "1e-3", "2e-3")))
    killed(jobs, tmp_path, 33, monkeypatch)
    for name in ("pack.ckpt", "pack.previous.ckpt"):
        damage(tmp_path / "0" / name)
    results: dict[int, JobResult] = {}
    folders = [tmp_path / str(number) for number in range(4)]
    with pytest.raises(Unfused, match="no checkpoint") as apart:
        job.run_pack(jobs, folders, SETTINGS, None, results.__setitem__, requests(4))
    left = apart.value.groups[0]
    assert {*results, *left} == set(range(4))
    assert results
    assert {result.status for result in results.values()} == {"FINISHED"}
    assert not list(tmp_path.rglob("pack*"))
    assert all(journal_status(folders[index]) == "KILLED" for index in left)


def test_killed_before_its_first_checkpoint(
    plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = configs(*seeds(4, *PLAIN))
    killed(jobs, tmp_path, 1, monkeypatch)
    (tmp_path / "0" / "pack.ckpt").unlink()
    ids = pack_manifest.run_ids([tmp_path / str(index) for index in range(4)])
    results = run(jobs, tmp_path)
    assert tuple(results[index].run_id for index in range(4)) == ids
    assert_same(tmp_path, plain[0], results, plain[1])


def test_a_full_disk_ends_the_jobs_which_go_on_another_time(
    plain: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = configs(*seeds(4, *PLAIN))

    def full() -> None:
        raise OSError(28, "No space left on device")

    with at_step(monkeypatch, 17, full), pytest.raises(OSError, match="No space"):
        run(jobs, tmp_path)
    assert {journal_status(tmp_path / str(index)) for index in range(4)} == {"FAILED"}
    assert_same(tmp_path, plain[0], run(jobs, tmp_path), plain[1])


def test_any_other_error_leaves_no_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        raise RuntimeError("a bug")

    with at_step(monkeypatch, 9, crash), pytest.raises(RuntimeError, match="a bug"):
        run(configs(*seeds(2, *PLAIN)), tmp_path)
    assert {journal_status(tmp_path / str(index)) for index in range(2)} == {"KILLED"}  # each is to train alone
    assert not list(tmp_path.rglob("pack*"))


def test_an_end_that_was_not_sent_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = configs(*(("optimizer.lr=" + lr, *STOPPING) for lr in ("1", "1e-3", "2e-3")))
    killed(jobs, tmp_path, 33, monkeypatch)
    sent: list[Path] = []
    monkeypatch.setattr(job_result, "send", sent.append)
    run(jobs, tmp_path)
    assert sent == [tmp_path / "0"]


def test_other_jobs_do_not_take_a_pack_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(configs(*seeds(2, *PLAIN)), tmp_path, 9, monkeypatch)
    ids = pack_manifest.run_ids([tmp_path / "0", tmp_path / "1"])
    results = run(configs(*seeds(2, *PLAIN)), tmp_path, "another")
    assert not {result.run_id for result in results.values()} & set(ids)
    assert [journal_status(path) for path in sorted(tmp_path.glob("*/earlier-1"))] == ["KILLED"] * 2


def test_a_member_can_be_extended_alone(tmp_path: Path) -> None:
    schedule = "+scheduler={_target_: torch.optim.lr_scheduler.ExponentialLR, gamma: 0.9}"
    local = ("regularizer=[l2,ema]", schedule, "measure.every=1")
    run(configs(*seeds(2, *local)), tmp_path / "pack")
    (longer,) = configs((*local, "seed=1", f"trainer.max_epochs={EPOCHS + 2}"))
    run_job(longer, resume=run_state.read_state(tmp_path / "pack" / "1"))
    with chdir(tmp_path):
        run_job(longer)
    (other,) = (tmp_path / "runs").glob("*/*")
    mine, right = weights(tmp_path / "pack" / "1", "last.ckpt"), weights(other, "last.ckpt")
    for name, tensor in right.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-4)
    rows, expected = ({row[:2]: float(row[2]) for row in recorded(path)} for path in (tmp_path / "pack" / "1", other))
    for step in range(EPOCHS + 3):
        for key in ("weights/all/l2", "weights/all/update", "val/loss", "optimizer/lr"):
            if (key, step) in expected:
                assert rows[key, step] == pytest.approx(expected[key, step], rel=1e-2, abs=1e-5), (key, step)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def journal_status(folder: Path) -> str:
    state = run_state.read_state(folder)
    assert state is not None
    return state.status


@pytest.mark.parametrize("step", [6, 16])
def test_a_pack_that_ends_inside_an_epoch(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    length = ("trainer.max_epochs=null", "+trainer.max_steps=17", "+trainer.limit_train_batches=6", "measure.every=1")
    jobs = configs(*seeds(2, *length))
    whole = run(jobs, tmp_path / "whole")
    assert {row[1] for row in recorded(tmp_path / "whole" / "0")} == {0, 1, 2, 3}
    killed(jobs, tmp_path / "killed", step, monkeypatch)
    assert_same(tmp_path / "killed", tmp_path / "whole", run(jobs, tmp_path / "killed"), whole)
    asked(jobs, tmp_path / "asked", step, monkeypatch)
    assert_same(tmp_path / "asked", tmp_path / "whole", run(jobs, tmp_path / "asked"), whole)
    alone = run_job(jobs[1])
    assert alone.metrics["val/loss"] == pytest.approx(whole[1].metrics["val/loss"], rel=1e-4)

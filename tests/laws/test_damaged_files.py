"""Law: whatever becomes of one file of a run costs that run; no command ends in a traceback or touches another."""

import contextlib
import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import reglab
from reglab.cli.command import main
from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import PackSettings
from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.folder import read_identity
from reglab.training.fused.job import run_pack
from reglab.training.job import run_job
from training.job_case import close, config

KEPT = ("trainer.checkpoint_seconds=0", "model.width=4", "data.batch_size=32")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(b"\xff\x00{[" * 75),
    "list": lambda path: path.write_bytes(b"[1]\n"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
}


def train(folder: Path, *overrides: str, die: int | None = None) -> None:
    """Train a job in ``folder``; ``die`` ends its process, without a last word, after that epoch."""
    HydraConfig.instance().cfg = OmegaConf.create(
        {"hydra": {"runtime": {"output_dir": str(folder)}, "overrides": {"task": []}}}
    )
    run_job(config(*KEPT, *overrides), lambda progress: os._exit(9) if progress.epoch == die else None)


def in_child(work: Callable[[], object]) -> None:
    """Let a process of its own work, and die."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def train_pack(sweep: Path) -> None:
    """Begin a sweep of a pack in a process that dies while it trains."""
    settings = TrackingSettings.from_config(config().tracking)
    run = open_run(settings, name="sweep", folder=sweep, config={}, params={}, tags={})
    run.finish("KILLED")
    (sweep / "multirun.yaml").write_text("hydra: {}\n")
    jobs = [config(*KEPT, f"seed={number}", "trainer.max_epochs=50") for number in range(2)]
    requests = [JobRequest(number, parent=run.run_id) for number in range(2)]
    folders = [sweep / "0", sweep / "1"]

    def ended(index: int, progress: object) -> None:
        if (sweep / "0" / "pack.ckpt").exists():
            os._exit(9)

    in_child(lambda: run_pack(jobs, folders, PackSettings(False, None, True), ended, lambda *end: None, requests))


@pytest.fixture(scope="module")
def made(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with runs that finished, died, and wait for their store, and a copy of them."""
    home = tmp_path_factory.mktemp("damaged")
    shutil.copy(template, home / "reglab.db")
    cfg = HydraConfig.instance().cfg
    with contextlib.chdir(home):
        train(home / "runs" / "done", "tracking.points=2")
        train(home / "runs" / "healthy", "tracking=offline")
        in_child(lambda: train(home / "runs" / "dead", die=2))
        train_pack(home / "runs" / "sweep")
        HydraConfig.instance().cfg = cfg
        shutil.copytree("runs", "copy")
        yield home
    close(home)


def restored(home: Path) -> Path:
    shutil.rmtree(home / "runs")
    shutil.copytree(home / "copy", home / "runs")
    return home / "runs"


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}


def status_of(home: Path, run: str) -> str:
    identity = read_identity(home / "copy" / run)
    with closing(sqlite3.connect(home / "reglab.db")) as store:
        found = store.execute("SELECT status FROM runs WHERE run_uuid = ?", [identity.run_id]).fetchone()
    return str(found[0]) if found else ""


def said_by(*words: str) -> tuple[int, str]:
    """Run a command in this process; anything but an exit code is an error that it did not foresee."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main(words)
    return code, told.getvalue()


def files(home: Path, run: str) -> list[str]:
    """Return all files that were found in the folder of a run, but Hydra's own copy of the configuration."""
    found = [path for path in (home / "copy" / run).rglob("*") if path.is_file() and path.parent.name != ".hydra"]
    return sorted(str(path.relative_to(home / "copy")) for path in found if path.suffix != ".db")


@pytest.mark.parametrize("of", [(0,), pytest.param(range(1, len(DAMAGES)), marks=pytest.mark.long)], ids=["one", "all"])
@pytest.mark.parametrize("run", ["done", "dead", "sweep"])
def test_a_damaged_file_costs_its_run_and_no_command_fails(made: Path, run: str, of: Iterable[int]) -> None:
    names = files(made, run)
    assert len(names) >= 8, names
    hows = list(DAMAGES)
    for number, name in enumerate(names):
        for how in [hows[(number + each) % len(hows)] for each in of]:
            runs = restored(made)
            DAMAGES[how](runs / name)
            code, told = said_by("sync", "runs")
            case = (name, how, code, told)
            assert code == 0 or str(runs / name).rsplit("/", 1)[0] in told, case
            assert (status_of(made, "done"), status_of(made, "healthy")) == ("FINISHED", "FINISHED"), case
            done, healthy = bytes_of(runs / "done"), bytes_of(runs / "healthy")
            assert said_by("clean", "--yes", "runs")[0] == 0, case
            assert bytes_of(runs / "healthy").items() <= healthy.items(), case
            assert run == "done" or bytes_of(runs / "done").items() <= done.items(), case


@pytest.mark.parametrize("how", ["noise", "folder", "gone"])
def test_a_run_with_a_damaged_file_is_loaded_and_resumed_or_refused(made: Path, how: str) -> None:
    for name in files(made, "dead"):
        runs = restored(made)
        healthy = bytes_of(runs / "healthy")
        DAMAGES[how](runs / name)
        with contextlib.suppress(UserError):
            reglab.load(runs / "dead")
        code, told = said_by("resume", "runs/dead")
        assert code in (0, 2), (name, told)
        assert code == 0 or name.rsplit("/", 1)[-1] in told or "runs/dead" in told, (name, told)
        assert bytes_of(runs / "healthy") == healthy, name

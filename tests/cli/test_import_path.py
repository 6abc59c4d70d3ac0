"""A module of the working folder has one name wherever a job runs, and hides nothing that is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REGLAB = str(Path(sys.executable).with_name("reglab"))
MINE = """
import os
from torch import nn

class Net(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        with open("told.txt", "a") as told:
            told.write(f"{__name__} {__file__} {os.environ.get('RANK', '0')} {os.environ.get('PYTHONSAFEPATH', '')}\\n")
"""
STRANGER = """
with open("stranger.txt", "a") as told:
    told.write(__name__)
raise SystemExit("a stranger's file was imported")
"""
HIDING = ("torch", "yaml", "socket", "selectors", "pandas", "mlflow")  # named as what is installed, or Python's own
FIT = """
import reglab
from mine import Net
if __name__ == "__main__":
    data = reglab.dataset("wine")
    trainer = {"devices": 2, "strategy": "ddp_spawn", "accelerator": "cpu"}
    reglab.fit(Net(13, 3), data, epochs=1, trainer=trainer)
"""
TRAIN = (
    *("train", "data=wine", "model=custom", "model._target_=mine.Net", "trust=[mine]"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "tracking=none"),
)
SMALL = ("train", "data=wine", "trainer.max_epochs=1", "trainer.accelerator=cpu", "tracking=none")
SWEEP = ("hydra.mode=MULTIRUN", "seed=0", "sweep.report=false", "hydra.launcher.workers=1")
RANKS = ("hydra/launcher=process", "trainer.devices=2", "trainer.strategy=ddp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working folder with a module of the user's, and a stranger's files."""
    (tmp_path / "mine.py").write_text(MINE)
    for name in HIDING:
        (tmp_path / f"{name}.py").write_text(STRANGER)
    return tmp_path


def run(folder: Path, *command: str) -> list[list[str]]:
    """Run a command in ``folder``, and return name, file, rank and variable that the model's module told each time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert not (folder / "stranger.txt").exists()
    told = [line.split(" ") for line in (folder / "told.txt").read_text().splitlines()]
    (folder / "told.txt").unlink()
    assert {(name, file, safe) for name, file, _, safe in told} == {("mine", str(folder / "mine.py"), "")}
    return told


def test_a_run_and_a_resumed_run(folder: Path) -> None:
    run(folder, REGLAB, *TRAIN)
    (made,) = folder.glob("runs/*/*")
    run(folder, REGLAB, "resume", str(made.relative_to(folder)), "trainer.max_epochs=2", "trust=[mine]")


@pytest.mark.parametrize("launcher, ranks", [((), {"0"}), (RANKS, {"0", "1"})])
def test_a_workers_jobs_and_each_rank(launcher: tuple[str, ...], ranks: set[str], folder: Path) -> None:
    told = run(folder, REGLAB, *TRAIN, *SWEEP, *launcher)
    assert {rank for _, _, rank, _ in told} == ranks


def test_nothing_of_the_folder_is_imported_where_none_of_it_is_trusted(folder: Path) -> None:
    """Libraries try names that need not be installed, namespace packages are open, and Hydra imports every plugin."""
    for name in ("hydra_plugins/theirs.py", "google/__init__.py", "numba.py", "IPython.py", "colorama.py", "psutil.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(STRANGER)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for words in (SMALL, ("train", "-m", *SMALL[1:], "seed=0,1", "hydra.launcher.workers=1", "sweep.report=false")):
        ended = subprocess.run(
            [REGLAB, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert not (folder / "stranger.txt").exists()


def test_fit_in_a_script_with_spawned_ranks(folder: Path) -> None:
    for name in HIDING:  # Python itself looks beside a script first
        (folder / f"{name}.py").unlink()
    (folder / "script.py").write_text(FIT)
    assert run(folder, sys.executable, "script.py")

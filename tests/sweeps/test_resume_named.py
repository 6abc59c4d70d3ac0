"""``reglab resume`` of a sweep resumes that very sweep."""

import os
import shutil
from pathlib import Path

import forked

SWEEP = (
    *("train", "-m", "data=wine", "model.width=4", "trainer.max_epochs=1", "trainer.accelerator=cpu", "seed=0,1"),
    *("sweep.report=false", "sweep.test=false", "hydra.launcher.workers=1", "hydra.launcher.compile=false"),
)


def reglab(folder: Path, *words: str) -> str:
    done = forked.run(["-m", "reglab", *words], cwd=folder, env={**os.environ, "COLUMNS": "500"})
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_sweep_that_is_not_the_newest_of_its_kind_is_resumed(tmp_path: Path, template: Path) -> None:
    shutil.copy(template, tmp_path / "reglab.db")
    reglab(tmp_path, *SWEEP)
    (older,) = (path.parent for path in tmp_path.glob("runs/*/*/multirun.yaml"))
    reglab(tmp_path, *SWEEP, "sweep.again=true")
    (newer,) = {path.parent for path in tmp_path.glob("runs/*/*/multirun.yaml")} - {older}
    for folder in (older, newer):
        said = reglab(tmp_path, "resume", str(folder))
        assert f"resuming the sweep in {folder}: 2 of 2 jobs are finished" in said

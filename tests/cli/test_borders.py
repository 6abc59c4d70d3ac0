"""Commands whose text crosses a border: to a terminal, a URL, Hydra, a shell."""

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import forked

SMALL = ["data=wine", "trainer.max_epochs=1", "model.width=4"]


def reglab(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return forked.run(["-m", "reglab", *words], cwd=folder)


def test_a_sweep_ends_well_on_a_terminal_that_cannot_show_its_table(tmp_path, template):
    shutil.copy(template, tmp_path / "reglab.db")
    sweep = ["train", "-m", *SMALL, "regularizer=[l2]", "regularizer.l2.strength=0.01,0.1"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    ended = subprocess.run([sys.executable, "-m", "reglab", *sweep], cwd=tmp_path, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode("latin-1")
    told = ended.stdout.decode("latin-1")
    assert "< choice" in told
    assert "val loss ±SE" in told
    assert list(tmp_path.glob("runs/*/*/report.html"))


def test_a_folder_of_any_name_keeps_its_own_store(tmp_path):
    folder = tmp_path / "why? 100%25 #é;&['x"
    folder.mkdir()
    ended = reglab("train", *SMALL, folder=folder)
    assert ended.returncode == 0, ended.stderr
    with closing(sqlite3.connect(f"{(folder / 'reglab.db').as_uri()}?mode=ro", uri=True)) as store:
        [(run, status)] = store.execute("SELECT run_uuid, status FROM runs").fetchall()
    assert status == "FINISHED"
    assert (folder / "mlartifacts" / run / "artifacts" / "config.yaml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_columns_of_any_name_are_swept_over(tmp_path):
    rows = "".join(f"{row % 7},{row % 5},{row % 3},{row % 4}\n" for row in range(60))
    (tmp_path / "t.csv").write_text(f'a,"y[0]","y (%)/é",2023\n{rows}', encoding="utf-8")
    sweep = ["train", "-m", *SMALL, "data=table", "data.path=t.csv", 'data.target="y[0]","y (%)/é","2023"']
    ended = reglab(*sweep, "hydra.launcher.preload=[]", "sweep.dry=true", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "3 jobs" in ended.stdout


def test_the_advice_to_leave_a_column_out_works_as_it_is_printed(tmp_path, template):
    shutil.copy(template, tmp_path / "reglab.db")
    rows = "".join(f",{row % 5},{row % 2}\n" for row in range(40))
    (tmp_path / "t.csv").write_text(f'"a [mm], $x",b,y\n{rows}', encoding="utf-8")
    command = ["train", *SMALL, "data=table", "data.path=t.csv", "data.target=y"]
    refused = reglab(*command, folder=tmp_path)
    assert refused.returncode == 2
    advice = refused.stderr.rpartition("Leave them out: ")[2]
    assert reglab(*command, *shlex.split(advice), folder=tmp_path).returncode == 0

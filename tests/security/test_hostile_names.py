"""Whatever a thing is called: nothing is written outside the run's folder, nothing ends in a traceback."""

import copy
import os
import re
import subprocess
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from reglab import data
from reglab.cli import command
from reglab.config.paths import conf_dir
from reglab.config.validate import check_config
from reglab.core.errors import UserError
from reglab.regularizers import L2, Cocktail
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.folder import shell_path
from security.names import NAMES
from training.job_case import close


@pytest.fixture
def inner(tmp_path, monkeypatch):
    """A working folder in one that nothing may be written to."""
    folder = tmp_path / "inner" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    yield folder
    if (folder / "reglab.db").exists():
        close(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in folder.parent.iterdir()] == ["work"]
    assert not Path("/tmp/reglab-hostile").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.isidentifier()])
def test_regularizers_and_data_sets_have_plain_names(inner, name):
    with pytest.raises(UserError, match=r"^regularizer name"):
        Cocktail({name: L2()}, 0, "classification")
    with pytest.raises(UserError, match=r"^data\.name="):
        data.load({"name": name})


@pytest.mark.parametrize("backend", ["none", "mlflow"])
def test_a_run_may_be_called_anything_and_stays_in_its_folder(inner, backend):
    for number, name in enumerate(NAMES):
        folder = inner / "runs" / str(number)
        try:
            settings = TrackingSettings.from_config({"name": backend, "experiment": name})
            said = {"name": name, name: name}
            run = open_run(settings, name=name, folder=folder, config=said, params=said, tags=said)
            run.log({f"weights/{name}/l2": 1.0}, 0)
            run.tag(**{f"user.{name}": name})
            run.note(name)
            run.finish()
        except UserError:
            continue
        assert (folder / "journal.jsonl").exists()
    allowed = {"runs", "reglab.db", "reglab.db-shm", "reglab.db-wal", "mlartifacts", "reglab.db.lock"}
    assert {path.name for path in inner.iterdir()} <= allowed
    assert {path.name for path in (inner / "runs").iterdir()} <= {str(number) for number in range(len(NAMES))}


def test_names_that_hydra_makes_paths_of_stay_inside(inner):
    hydra = Hydra.create_main_hydra2("reglab", create_config_search_path(str(conf_dir())))
    composed = hydra.compose_config("train", [], RunMode.MULTIRUN)
    GlobalHydra.instance().clear()
    OmegaConf.set_readonly(composed.hydra, False)
    for key in ("hydra.job.name", "hydra.sweep.subdir", "hydra.output_subdir"):
        for name in NAMES[:16]:
            named = copy.deepcopy(composed)
            OmegaConf.update(named, key, name.replace("${", "$"), merge=False)
            try:
                check_config(named)
            except UserError:
                continue
            assert (inner / name).resolve().is_relative_to(inner), (key, name)


STEERING = ("a\nb", "a\tb", "\x1b[2Jx'", "\u202egnp", "\udcff\udcfe", "${oc.env:HOME}")
PLAIN = (
    "-rf",
    "--help",
    "%n",
    "$(touch PWNED)",
    "`id`",
    'it\'s "q"',
    " a ",
    "~",
    "~x",
    "=x",
    "a,b",
    "[ab]",
    "{a}",
    "#",
    "é漢",
)


@pytest.mark.parametrize("name", STEERING)
def test_a_working_folder_that_no_file_can_name_is_told_with_what_renames_it(inner, monkeypatch, capsys, name):
    (inner / name).mkdir()
    monkeypatch.chdir(inner / name)
    assert command.main(["train", "data=wine"]) == 2
    said = capsys.readouterr().err
    assert os.listdir() == []  # noqa: PTH208 - names alone
    monkeypatch.chdir(inner)
    advice = re.search("as by (mv .*)$", said)[1].replace("NEW-NAME", "renamed")
    assert subprocess.run(["bash", "-c", advice], check=True).returncode == 0
    assert [path.name for path in inner.iterdir()] == ["renamed"]


@pytest.mark.parametrize("name", [*PLAIN, "x" * 255])
def test_what_is_advised_about_a_folder_can_be_typed(inner, name):
    (inner / name).mkdir()
    script = f"printf '%s\\0' {shell_path(inner / name)}"
    printed = subprocess.run(["bash", "-c", script], check=True, capture_output=True).stdout.decode().rstrip("\0")
    assert os.path.normpath(printed) == name
    assert not printed.startswith("-")
    assert [path.name for path in inner.iterdir()] == [name]

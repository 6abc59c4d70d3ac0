"""Small real sweeps: what a sweep tells its jobs reaches them, and nothing that users read."""

import json
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import forked
from reglab.cli import main
from reglab.tracking.folder import read_identity
from reglab.tracking.run_state import read_state
from training.job_case import SMALL

HIDDEN = {"parent", "block", "job", "after", "start", "trail", "resume"}
PATH = ("regularizer=[l1]", "regularizer.l1.strength=0.1,0.01", "sweep.path=up", "hydra/launcher=local")
OFFLINE = (*SMALL, "tracking=offline", "hydra.launcher.workers=1")


def train(folder: Path, *words: str) -> str:
    """Run a sweep offline; return what was said on standard error."""
    given = ["train", "-m", *OFFLINE, *words]
    with chdir(folder), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as told:
        assert main([word for word in given if "basic" not in "".join(words) or "workers" not in word]) == 0
    return told.getvalue()


def sweep_folder(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/*/multirun.yaml")
    return found.parent


def tags(folder: Path) -> dict[str, str]:
    state = read_state(folder)
    assert state is not None
    return state.tags


@pytest.mark.parametrize("launcher", ["fused", "local", "process", "basic"])
def test_what_users_read_of_a_job_has_no_hidden_keys(launcher: str, tmp_path: Path) -> None:
    more = ["hydra.launcher.always=true"] if launcher == "fused" else []
    words = ["seed=3,4", f"hydra/launcher={launcher}", *more]
    if launcher == "process":  # whose jobs are new interpreters
        ended = forked.run(["-m", "reglab", "train", "-m", *OFFLINE, *words], cwd=tmp_path, interpreters=3)
        assert ended.returncode == 0, ended.stderr
    else:
        train(tmp_path, *words)
    home = sweep_folder(tmp_path)
    parent = read_identity(home).run_id
    for number in (0, 1):
        folder = home / str(number)
        start: Any = json.loads((folder / "start.json").read_text())
        recorded = yaml.safe_load((folder / "config.yaml").read_text())
        assert not HIDDEN & recorded["sweep"].keys()
        assert not {f"sweep.{key}" for key in HIDDEN} & start["params"].keys()
        for text in (json.dumps(start), (folder / "config.yaml").read_text()):
            assert "reglab_request" not in text
        assert f"seed={3 + number}" in start["tags"]["reglab.overrides"]
        wanted = {"reglab.job": str(number), "reglab.sweep": parent, "reglab.block": "none"}
        assert wanted.items() <= start["tags"].items()
        assert wanted.items() <= tags(folder).items()
        if launcher != "basic":  # which gets text only, and writes down what it got
            assert not [path for path in folder.glob(".hydra/*") if "reglab_request" in path.read_text()]
    assert "reglab_request" not in (home / "multirun.yaml").read_text()


def test_a_sweep_is_composed_once_and_its_jobs_once_for_check_and_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = []
    load = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: composed.append(a) or load(*a, **k))
    train(tmp_path, "seed=0,1,2", "hydra/launcher=local")
    assert len(composed) == 2  # the sweep, and what its jobs have in common


def test_a_job_of_a_path_is_resumed_alone_as_what_it_was(tmp_path: Path) -> None:
    train(tmp_path, *PATH)
    first, second = sweep_folder(tmp_path) / "1", sweep_folder(tmp_path) / "0"  # up: from the smaller strength
    before = tags(second)
    start = json.loads((second / "start.json").read_text())
    assert start["tags"]["reglab.start"] == read_identity(first).run_id
    assert json.loads(before["reglab.path"])["folder"] == str(first)
    with chdir(tmp_path), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        assert main(["resume", str(second), "trainer.max_epochs=4"]) == 0
    after = tags(second)
    for key in ("reglab.job", "reglab.sweep", "reglab.block", "reglab.path"):
        assert after[key] == before[key]
    assert after["reglab.extended"] == "from 3 to 4 epochs"


def test_a_job_of_an_older_version_is_resumed_alone_as_what_it_was(tmp_path: Path) -> None:
    """Which recorded the request in config.yaml, and the fingerprint with the same trail in it."""
    train(tmp_path, *PATH)
    first, second = sweep_folder(tmp_path) / "1", sweep_folder(tmp_path) / "0"
    before = tags(second)
    path = json.loads(before["reglab.path"])
    recorded = yaml.safe_load((second / "config.yaml").read_text())
    recorded["sweep"] |= {"parent": before["reglab.sweep"], "block": "l1", "job": 0, "resume": None}
    recorded["sweep"] |= {"after": 1, "start": str(first), "trail": path["trail"]}
    recorded["tracking"]["name"] = "offline"
    (second / "config.yaml").write_text(yaml.safe_dump(recorded))
    lines = [json.loads(line) for line in (second / "journal.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("reglab.job", "reglab.block", "reglab.path"):
            line.get("tags", {}).pop(key, None)
    (second / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with chdir(tmp_path), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        assert main(["resume", str(second), "trainer.max_epochs=4"]) == 0
    after = tags(second)
    for key in ("reglab.job", "reglab.sweep", "reglab.block", "reglab.path"):
        assert after[key] == before[key]
    assert not HIDDEN & yaml.safe_load((second / "config.yaml").read_text())["sweep"].keys()


@pytest.mark.parametrize("key", sorted(HIDDEN))
def test_a_user_who_sets_what_a_sweep_tells_its_jobs_is_refused(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(tmp_path):
        assert main(["train", f"sweep.{key}=1"]) == 2
    assert f"sweep.{key} was removed: a sweep tells it to its jobs by itself" in capsys.readouterr().err

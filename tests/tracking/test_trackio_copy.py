"""trackio's database holds the journal's numbers at their steps, read back by plain SQL."""

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, TrackingSettings, finish_runs, open_runs, reopen_run
from tracking.test_curve_files import ROWS

storage = pytest.importorskip("trackio.sqlite_storage", reason="pip install trackio; then its database is read back")

Rows = dict[str, dict[tuple[int, str], str]]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path / "trackio" / "study.db"


def read(database: Path) -> tuple[Rows, dict[str, Any], set[float]]:
    """Return rows and config by run, and all times in seconds."""
    with sqlite3.connect(database) as connection:
        logged = connection.execute("SELECT run_name, step, metrics, timestamp FROM metrics").fetchall()
        configs = connection.execute("SELECT run_name, config FROM configs").fetchall()
    rows = Rows()
    for name, step, metrics, _ in logged:
        for key, value in json.loads(metrics).items():
            at = (step, key)
            assert at not in rows.setdefault(name, {})
            rows[name][at] = repr(float(value))
    config = {name: json.loads(text) for name, text in configs}
    assert len(config) == len(configs)
    return rows, config, {datetime.fromisoformat(time).timestamp() for *_, time in logged}


def test_each_run_is_there_once_killed_and_resumed_or_not(database: Path, tmp_path: Path) -> None:
    settings = TrackingSettings.from_config({"name": "offline", "experiment": "study", "also": "trackio"}, tmp_path)
    names = ("a", "b")
    runs = open_runs(
        settings,
        [RunSpec(name, tmp_path / name, {}, {"optimizer": {"lr": 0.1}}, {}, parent="f" * 32) for name in names],
    )
    for run in runs:
        for step, metrics in ROWS[:2]:
            run.log(metrics, step)
    finish_runs(runs, ["KILLED", "FINISHED"])
    again = reopen_run(runs[0].folder)
    for step, metrics in ROWS[1:]:
        again.log(metrics, step)
    again.finish()
    rows, config, times = read(database)
    for run, name in zip((again, runs[1]), names, strict=True):
        written = list(run.journal.rows())
        assert rows[name] == {(row.step, row.key): repr(float(row.value)) for row in written}
        assert times >= {max(row.timestamp for row in written if row.step == step) / 1000 for step, _ in rows[name]}
        assert config[name]["optimizer.lr"] == 0.1
        assert config[name]["_Group"] == "f" * 32


def test_what_trackio_cannot_take_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking\.experiment=my_system cannot be a project of trackio"):
        TrackingSettings.from_config({"also": ["trackio"], "experiment": "my_system"}, tmp_path)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(UserError, match=r"TRACKIO_SPACE_ID is set.*trackio sync"):
        TrackingSettings.from_config({"also": ["trackio"]}, tmp_path)

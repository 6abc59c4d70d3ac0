"""The offline W&B run holds the journal's numbers at their steps, read back from its own file format."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, finish_runs, open_runs, open_sweep, reopen_run
from tracking.test_curve_files import ROWS

wandb = pytest.importorskip("wandb", reason="pip install wandb; then its offline runs are read back")
BLOCK, HEADER = 32_768, 7  # of LevelDB's log format, in which the records are kept

Rows = dict[tuple[int, str], str]


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def records(folder: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb-reglab/offline-run-*/run-*.wandb")
    content, record, position = path.read_bytes(), b"", HEADER  # behind the file's own header
    while position < len(content):
        if (left := BLOCK - position % BLOCK) < HEADER:
            position += left
            continue
        _, length, part = struct.unpack("<IHB", content[position : position + HEADER])
        position += HEADER + length
        record += content[position - length : position]
        if part in (1, 4):  # whole, last
            yield Record.FromString(record)
            record = b""


def read(folder: Path) -> tuple[Any, Rows, int]:
    """Return the run, its history less what W&B adds, and its exit code."""
    run, rows, code = None, Rows(), -1
    for record in records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "exit":
            code = record.exit.exit_code
        elif kind == "history":
            row = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            for key, value in row.items():
                if not key.startswith("_"):
                    at = (record.history.step.num, key)
                    assert at not in rows
                    rows[at] = repr(float(json.loads(value)))
    return run, rows, code


def journal(run: RunTracker) -> Rows:
    return {(row.step, row.key): repr(float(row.value)) for row in run.journal.rows()}


def test_members_of_a_sweep_are_runs_with_their_params_killed_and_resumed_or_not(
    settings: TrackingSettings, tmp_path: Path
) -> None:
    node = {"name": "mlflow", "uri": settings.uri, "experiment": "a/study", "also": ["wandb"]}
    also = TrackingSettings.from_config(node, tmp_path)
    sweep = open_sweep(also, name="sweep of l1", folder=tmp_path, params={}, tags={})
    specs = [
        RunSpec(f"l1 {value}", tmp_path / str(job), {}, {"regularizer": {"l1": {"strength": value}}, "model": "mlp"},
                {"reglab.regularizer": "l1", "reglab.strength": value}, parent=sweep.run_id)
        for job, value in enumerate([0.001, 0.01])
    ]  # fmt: skip
    runs = open_runs(also, specs)
    for step, metrics in ROWS:
        runs[0].log(metrics, step)
    for step, metrics in ROWS[:2]:
        runs[1].log(metrics, step)
    finish_runs(runs, ["FINISHED", "KILLED"])
    assert read(runs[1].folder)[2] == 1
    assert len(read(runs[1].folder)[1]) == 3
    again = reopen_run(runs[1].folder)
    for step, metrics in ROWS[1:]:
        again.log(metrics, step)
    again.finish()
    sweep.finish()
    for run, value in zip((runs[0], again), (0.001, 0.01), strict=True):
        found, rows, code = read(run.folder)
        assert rows == journal(run)
        assert "inf" in rows.values()
        assert (code, found.display_name, found.project) == (0, f"l1 {value}", "a-study")
        assert found.run_group == f"sweep of l1 {sweep.run_id[:6]}"
        config = {each.key: json.loads(each.value_json) for each in found.config.update}
        assert config["regularizer.l1.strength"] == config["reglab.strength"] == value
        assert config["model"] == "mlp"
    assert read(again.folder)[0].run_id == again.run_id


@pytest.mark.parametrize(
    ("mode", "advice"), [("online", "nobody is logged in.*WANDB_MODE=offline"), ("ofline", "did you mean 'offline'")]
)
def test_a_mode_that_cannot_be_is_refused_before_training(
    mode: str, advice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=advice):
        TrackingSettings.from_config({"name": "none", "also": ["wandb"]}, tmp_path)

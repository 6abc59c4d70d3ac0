"""What ``tracking.also`` writes holds the numbers that MLflow has, read back by pandas and TensorBoard."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, finish_runs, log_pack, open_runs, reopen_run
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import IDENTITY, move_earlier_run

ODD = 'logged/a "b", c'
EVENTS = "events.out.tfevents.reglab"
# On every point that a run can be: NaN and infinities, keys of some steps only, a late row.
ROWS = [
    (0, {"val/loss": 1 / 3, "gap/loss": math.nan}),
    (4, {"val/loss": math.inf}),
    (2, {ODD: -0.1}),
    (7, {"val/loss": 1e-310, "gap/loss": 12345678901234567.0}),
]


def opened(folder: Path, *names: str, **node: Any) -> list[RunTracker]:
    settings = TrackingSettings.from_config({"name": "none", **node}, folder)
    return open_runs(settings, [RunSpec(name, folder / name, {}, {}, {}) for name in names])


def cells(folder: Path) -> set[tuple[str, int, str]]:
    """Return what pandas reads from the CSV, less its empty cells."""
    table = pd.read_csv(folder / "metrics.csv", dtype=str, keep_default_na=False)
    return {
        (key, int(step), repr(float(cell)))
        for key in table.columns.drop("step")
        for step, cell in zip(table["step"], table[key], strict=True)
        if cell
    }


def stored(client: Any, run: RunTracker) -> set[tuple[str, int, str]]:
    keys = client.get_run(run.run_id).data.metrics
    return {
        (key, row.step, repr(float(row.value))) for key in keys for row in client.get_metric_history(run.run_id, key)
    }


def test_the_csv_has_what_mlflow_has(settings: TrackingSettings, client: Any, tmp_path: Path) -> None:
    node = {"name": "mlflow", "uri": settings.uri, "experiment": "study", "points": None, "also": "csv"}
    runs = open_runs(
        TrackingSettings.from_config(node, tmp_path),
        [RunSpec(name, tmp_path / name, {}, {}, {}) for name in "ab"],
    )
    log_pack(runs, ["val/loss", "train/loss"], [[0.1, 0.2], [0.3, 2 / 3]], 3)
    runs[1].log({"weights/l1": 7.0}, 5)
    runs[1].summary({"val/loss": 0.3})
    finish_runs(runs, ["FINISHED", "FAILED"])
    for run, values in zip(runs, (2, 4), strict=True):
        assert len(cells(run.folder)) == values
        assert cells(run.folder) == stored(client, run)


def test_a_run_that_was_killed_and_resumed_has_each_row_once(tmp_path: Path) -> None:
    (run,) = opened(tmp_path, "run", also=["csv"])
    for step, metrics in ROWS[:2]:
        run.log(metrics, step)
    run.journal.close()  # as the death of its process leaves it
    assert run._lock is not None
    run._lock.release()
    assert sync([tmp_path], say=lambda _: None).complete
    assert {step for _, step, _ in cells(run.folder)} == {0, 4}
    again = reopen_run(run.folder)
    for step, metrics in ROWS[1:]:
        again.log(metrics, step)
    again.finish()
    assert cells(run.folder) == {(key, step, repr(value)) for step, metrics in ROWS for key, value in metrics.items()}
    assert list(pd.read_csv(run.folder / "metrics.csv")["step"]) == [0, 2, 4, 7]


def test_tensorboard_reads_the_rows_with_their_times(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard; then the events are read back")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = opened(tmp_path, "run", also=["tensorboard"])
    for step, metrics in ROWS[:3]:
        run.log(metrics, step)
    run.finish("KILLED")
    again = reopen_run(run.folder)
    again.log({"val/loss": 0.25}, 9)
    again.finish()
    events = EventAccumulator(str(run.folder))
    events.Reload()
    read = [(key, e.step, e.wall_time, repr(e.value)) for key in events.Tags()["scalars"] for e in events.Scalars(key)]
    single = pd.DataFrame(again.journal.rows()).astype({"value": "float32"})
    assert sorted(read) == sorted(
        (row.key, row.step, row.timestamp / 1000, repr(float(row.value))) for row in single.itertuples()
    )
    assert [path.name for path in run.folder.glob("*tfevents*")] == [EVENTS]


def test_what_cannot_be_written_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run,) = opened(tmp_path, "run", also=["csv"])
    run.log({"loss": 1.0}, 1)
    (run.folder / "metrics.csv").mkdir()
    run.finish()
    assert "metrics.csv could not be written" in caplog.text
    assert "FINISHED" in (run.folder / "journal.jsonl").read_text()


def test_another_run_in_the_folder_moves_the_file_but_not_a_users_own(tmp_path: Path) -> None:
    for also, moved in (["csv"], True), ([], False):
        (run,) = opened(tmp_path / str(moved), "run", also=also)
        run.log({"loss": 1.0}, 1)
        run.finish()
        (run.folder / "metrics.csv").touch()
        earlier = move_earlier_run(run.folder)
        assert earlier
        assert (earlier / IDENTITY).exists()
        assert (earlier / "metrics.csv").exists() is moved


@pytest.mark.parametrize(
    ("also", "advice"),
    [
        ("cvs", "did you mean 'csv'"),
        (["csv", "excel"], r"tracking.also=excel: .*csv, tensorboard"),
        (["wandbb"], "did you mean 'wandb'"),
        (3, r"give a list, such as tracking.also=\[csv,tensorboard\]"),
        ([3], "give a list"),
    ],
)
def test_an_unknown_name_is_refused_with_what_to_give(also: Any, advice: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=advice):
        TrackingSettings.from_config({"also": also}, tmp_path)


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        TrackingSettings.from_config({"also": [package]}, tmp_path)

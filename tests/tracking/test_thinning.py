"""The budget of points: the rule, what the store gets of a long series, and where the rest is."""

import math
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from reglab.tracking import RunSpec, TrackingSettings, open_run, open_runs, reopen_run, send
from reglab.tracking.thinning import Thinning, thinning


@pytest.mark.parametrize("points", [2, 3, 10, 500])
@pytest.mark.parametrize("every", [1, 3, 7])
def test_the_budget_holds_whatever_the_number_of_steps(points, every):
    for steps in (1, 2, 7, 20, 21, 22, 499, 500, 501, 2_000, 4_999):
        rule = thinning(points, steps, every)
        logged = [*range(0, steps, every), steps]
        kept = [step for step in logged if rule.keeps("val/loss", step)]
        assert len(kept) <= points
        assert {0, steps} <= set(kept)
        if len(logged) <= points:
            assert kept == logged
        gaps = [after - before for before, after in pairwise(kept[:-1])]
        assert len(set(gaps)) <= 1  # evenly


def test_results_are_kept_wherever_they_stand_and_without_a_budget_everything_is():
    rule = thinning(10, 1_000)
    assert not rule.keeps("val/loss", 7)
    assert rule.keeps("final/val/loss", 7)
    assert rule.keeps("test/loss", 7)
    assert thinning(None, 1_000) == thinning(10, None) == Thinning()


@pytest.mark.parametrize("points", [20, 100, 500, 3_000])
def test_a_run_of_a_sweep_keeps_a_fifth_and_its_charts_stay_useful(points):
    for steps in (1, 19, 20, 49, 50, 99, 100, 107, 198, 499, 1_000, 10_000):
        rule = thinning(points, steps, swept=True)
        main, minor = (
            {step for step in range(steps + 1) if rule.keeps(key, step)} for key in ("gap/loss", "weights/a/l1")
        )
        most = min(points, max(points // 5, 50))
        assert min(steps + 1, most // 2) <= len(main) <= most
        assert len(minor) <= min(points, max(most // 10, 10))
        assert {0, steps} <= minor <= main
        assert all(rule.keeps_some(b"{}", step) for step in main)
    default = thinning(500, 107, swept=True)
    assert sum(default.keeps("gap/loss", step) for step in range(108)) == 55
    assert sum(default.keeps("system/seconds", step) for step in range(108)) == 10
    assert thinning(None, 1_000, swept=True) == Thinning()


@pytest.fixture
def settings(settings):
    """A budget of five points."""
    return replace(settings, points=5)


def steps_of(client, run_id, key):
    return [metric.step for metric in client.get_metric_history(run_id, key)]


def test_the_store_gets_a_thinned_part_and_the_artifact_all(start, client):
    tracker = start(steps=40)
    for step in range(41):
        tracker.log({"val/loss": step / 3, "sometimes": 1.0} if step in (0, 7) else {"val/loss": step / 3}, step)
    tracker.log({"test/loss": math.nan}, 33)
    tracker.summary({"val/loss": math.inf})
    tracker.finish()
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 10, 20, 30, 40]
    assert steps_of(client, tracker.run_id, "sometimes") == [0, 7]  # the last one always
    assert steps_of(client, tracker.run_id, "test/loss") == [33]
    assert steps_of(client, tracker.run_id, "final/val/loss") == [40]
    record = client.get_run(tracker.run_id)
    assert record.data.tags["reglab.points"] == "5 of 41; all in metrics.parquet"
    assert record.info.status == "FINISHED"

    table = pq.read_table(record.info.artifact_uri.removeprefix("file://") + "/metrics.parquet").to_pylist()
    assert {(row["key"], row["step"], row["timestamp"]) for row in table} == {
        (row.key, row.step, row.timestamp) for row in tracker.journal.rows()
    }
    values = {(row["key"], row["step"]): row["value"] for row in table}
    assert [values["val/loss", step] for step in range(41)] == [step / 3 for step in range(41)]
    assert math.isnan(values["test/loss", 33])
    assert values["final/val/loss", 40] == math.inf


def test_within_the_budget_nothing_changes(start, client):
    tracker = start(steps=4)
    for step in range(5):
        tracker.log({"val/loss": 1.0}, step)
    tracker.finish()
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 1, 2, 3, 4]
    assert "reglab.points" not in client.get_run(tracker.run_id).data.tags
    assert not (tracker.folder / "metrics.parquet").exists()


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
def test_a_run_that_stops_early_or_diverges_keeps_its_last_step(start, client, status):
    tracker = start(steps=40)
    for step in range(18):
        tracker.log({"val/loss": step / 3}, step)
    if status == "FAILED":
        tracker.tag(**{"reglab.failure": "diverged"})
    tracker.finish(status)
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 10, 17]
    assert client.get_run(tracker.run_id).data.metrics["val/loss"] == 17 / 3


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_run_that_is_cut_short_and_goes_on_has_the_rows_of_one_that_never_stopped(start, client, status):
    tracker = start(steps=40)
    for step in range(18):
        tracker.log({"val/loss": step / 3}, step)
    tracker.finish(status)
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 10]
    assert client.get_run(tracker.run_id).data.tags["reglab.points"] == "2 of 18; all in metrics.parquet"
    again = reopen_run(tracker.folder)
    for step in range(12, 41):
        again.log({"val/loss": step / 3}, step)
    again.finish()
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 10, 20, 30, 40]
    (tracker.folder / "journal.sent").unlink()
    assert send(tracker.folder)
    assert steps_of(client, tracker.run_id, "val/loss") == [0, 10, 20, 30, 40]
    assert pq.read_table(tracker.folder / "metrics.parquet").num_rows == 41


def test_every_member_of_a_pack_has_the_rule_of_its_own_length(settings, client, tmp_path):
    pack = open_runs(
        settings, [RunSpec(str(steps), tmp_path / str(steps), {}, {}, {}, steps=steps) for steps in (4, 8)]
    )
    for tracker, steps in zip(pack, (4, 8), strict=True):
        for step in range(steps + 1):
            tracker.log({"val/loss": 1.0}, step)
        tracker.finish()
    assert [steps_of(client, tracker.run_id, "val/loss") for tracker in pack] == [[0, 1, 2, 3, 4], [0, 2, 4, 6, 8]]


def test_without_mlflow_all_stays_in_the_journal(tmp_path):
    settings = TrackingSettings.from_config({"name": "none", "points": 2}, tmp_path)
    given = {"config": {}, "params": {}, "tags": {}}
    tracker = open_run(settings, name="run", folder=tmp_path / "run", steps=10, **given)
    for step in range(11):
        tracker.log({"val/loss": 1.0}, step)
    tracker.finish()
    assert len(list(tracker.journal.rows())) == 11
    assert not (tmp_path / "run" / "metrics.parquet").exists()

import math
import random
import sqlite3

import pytest
from mlflow.entities import Metric

from reglab.tracking.journal_lines import Row, Series
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql import RunWrite


@pytest.fixture
def run(client):
    """Makes runs of one experiment."""
    experiment = client.create_experiment("sql")
    return lambda: client.create_run(experiment).info.run_id


def some_rows():
    """Rows with everything that can be odd.

    NaN, infinities, equal steps, late and early times, out of order.
    """
    draw = random.Random(0)
    odd = [math.nan, math.inf, -math.inf, 0.0, -1.5, 1e-300, 1 / 3]
    rows = [
        Row(f"group/key-{key}", draw.choice(odd), 1_000 + draw.randrange(5), draw.randrange(4))
        for key in range(20)
        for _ in range(8)
    ]
    return list({(row.key, row.timestamp, row.step): row for row in rows}.values())


def part(run_id, rows):
    series = {row.key: Series([], [], []) for row in rows}
    for key, value, timestamp, step in rows:
        for column, entry in zip(series[key], (timestamp, step, value), strict=True):
            column.append(entry)
    return RunWrite(run_id, series)


def contents(store, run_id):
    with sqlite3.connect(store) as connection:
        tables = {
            table: sorted(
                connection.execute(
                    f"SELECT key, value, is_nan, timestamp, step FROM {table} WHERE run_uuid = ?", (run_id,)
                )
            )
            for table in ("metrics", "latest_metrics")
        }
    connection.close()
    return tables


def test_the_tables_hold_what_mlflow_itself_would_have_written(store, client, run):
    rows, ours, theirs = some_rows(), run(), run()
    client.log_batch(theirs, metrics=[Metric(row.key, row.value, row.timestamp, row.step) for row in rows])
    sql.write(store, [part(ours, rows)])
    assert contents(store, ours) == contents(store, theirs)
    assert len(contents(store, ours)["latest_metrics"]) == 20


def test_parts_in_any_order_and_twice_give_the_same_tables(store, client, run):
    rows, whole, parts = some_rows(), run(), run()
    sql.write(store, [part(whole, rows)])
    for start in (40, 0, 40, 80, 0):
        sql.write(store, [part(parts, rows[start : start + 40])])
    sql.write(store, [part(parts, rows[120:])])
    assert contents(store, parts) == contents(store, whole)


def test_mlflow_reads_the_rows_back(store, client, run):
    run_id = run()
    sql.write(store, [part(run_id, [Row("loss", 1 / step, 1_000 + step, step) for step in range(1, 60)])])
    history = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(s, 1 / s, 1_000 + s) for s in range(1, 60)]
    assert client.get_run(run_id).data.metrics == {"loss": 1 / 59}


def test_the_history_restores_what_sql_cannot_hold(store, run):
    run_id = run()
    given = [2.0, math.inf, -math.inf, math.nan]
    sql.write(store, [part(run_id, [Row("loss", value, 1_000, step) for step, value in enumerate(given)])])
    found = sql.read_history(store, run_id, ["loss", "absent"])
    assert found["absent"] == []
    assert [step for step, _ in found["loss"]] == [0, 1, 2, 3]
    assert [value for _, value in found["loss"][:3]] == given[:3]
    assert math.isnan(found["loss"][3][1])


def test_a_deleted_or_unknown_run_takes_nothing(store, client, run):
    run_id = run()
    client.delete_run(run_id)
    with pytest.raises(LookupError, match="was deleted"):
        sql.write(store, [part(run_id, [Row("loss", 1.0, 1, 1)])])
    with pytest.raises(LookupError):
        sql.write(store, [part("f" * 32, [Row("loss", 1.0, 1, 1)])])
    assert contents(store, run_id)["metrics"] == []


def test_another_schema_is_not_written_to(store, template, tmp_path):
    assert sql.is_known(store)
    other = tmp_path / "other.db"
    other.write_bytes(template.read_bytes())
    with sqlite3.connect(other) as connection:
        connection.execute("ALTER TABLE metrics ADD COLUMN model_id TEXT")
    connection.close()
    assert not sql.is_known(other)


def test_the_installed_mlflow_makes_stores_that_need_not_be_shown_to_it(store):
    """The revision that we know is the last one of the installed MLflow, whose version is the one that we know."""
    assert sql.is_current(store)
    with sqlite3.connect(store) as connection:
        # An earlier one.
        connection.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    connection.close()
    assert not sql.is_current(store)


def test_a_store_that_went_away_is_not_made_anew(tmp_path):
    with pytest.raises(sqlite3.Error):
        sql.write(tmp_path / "gone.db", [part("f" * 32, [Row("loss", 1.0, 1, 1)])])
    assert not (tmp_path / "gone.db").exists()


def test_a_commit_outlives_a_power_loss_however_sqlite_was_built(store):
    with sql.transaction(store) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL

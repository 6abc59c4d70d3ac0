"""Metric rows of a SQLite store by plain SQL: some thirty times the rate of MLflow's own ``log_batch``."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path

from reglab.tracking.lines import Row

_BUSY_SECONDS = 60.0
_LARGEST = 1.7976931348623157e308  # MLflow keeps an infinity as the largest float
_COLUMNS = {  # name -> place in the primary key, as MLflow 3.17 has them
    "metrics": {"key": 1, "timestamp": 2, "step": 3, "run_uuid": 4, "value": 5, "is_nan": 6},
    "latest_metrics": {"key": 1, "run_uuid": 2, "value": 0, "timestamp": 0, "step": 0, "is_nan": 0},
}
_INSERT = """
    INSERT INTO metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING"""
_UPSERT = """
    INSERT INTO latest_metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value, is_nan = excluded.is_nan, timestamp = excluded.timestamp, step = excluded.step
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)"""


@lru_cache
def is_known(path: Path) -> bool:
    """Return whether the tables in ``path`` are those that this module was written for."""
    with _connection(path) as connection:
        found = {
            table: {name: place for _, name, _, _, _, place in connection.execute(f"PRAGMA table_info({table})")}
            for table in _COLUMNS
        }
    return found == _COLUMNS


def write_rows(path: Path, run_id: str, rows: Iterable[Row]) -> None:
    """Store metric rows in one transaction; rows that are there already change nothing.

    Sorted by (key, timestamp), the order of the table's primary key. The latest value of a key is the largest by
    (step, timestamp, value), as MLflow has it. Raises sqlite3.Error, with nothing written; LookupError where the run
    was deleted.
    """
    stored = sorted((run_id, row.key, *_stored_value(row.value), row.timestamp, row.step) for row in rows)
    stored.sort(key=lambda row: (row[1], row[4]))
    latest: dict[str, tuple[str, str, float, bool, int, int]] = {}
    for row in stored:
        if row[1] not in latest or _age(row) > _age(latest[row[1]]):
            latest[row[1]] = row
    with _connection(path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")  # wait for other writers here, not half-way
        try:
            stage = connection.execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
            if stage != ("active",):
                raise LookupError(f"the run {run_id} was deleted in MLflow")
            connection.executemany(_INSERT, stored)
            connection.executemany(_UPSERT, latest.values())
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back by itself
                connection.execute("ROLLBACK")
            raise


def read_history(path: Path, run_id: str, keys: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each key, by step; a key without rows has an empty list."""
    history: dict[str, list[tuple[int, float]]] = {key: [] for key in keys}
    query = "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step, timestamp"
    with _connection(path) as connection:
        for key, points in history.items():
            for step, value, is_nan in connection.execute(query, (run_id, key)):
                points.append((step, restored_value(value, bool(is_nan))))
    return history


def restored_value(value: float, is_nan: bool = False) -> float:
    """Return the value that MLflow keeps as ``value``: infinities are infinities again."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value


def _stored_value(value: float) -> tuple[float, bool]:
    if math.isnan(value):
        return 0.0, True
    return max(-_LARGEST, min(_LARGEST, value)), False


def _age(row: tuple[str, str, float, bool, int, int]) -> tuple[int, int, float]:
    _, _, value, _, timestamp, step = row
    return step, timestamp, value


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    # mode=rw: a store that went away is an error, not a new empty file
    uri = f"{path.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        yield connection

"""Read and write a SQLite MLflow store by plain SQL, 30 times faster than ``log_batch``."""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, repeat
from pathlib import Path

from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.copies import CLAIM, elsewhere, is_claimed_elsewhere
from reglab.tracking.journal_lines import Series

_BUSY_SECONDS = 60.0
_LARGEST = 1.7976931348623157e308  # MLflow keeps an infinity as the largest float
_VERSION, REVISION = "3.17.", "dc11669786a5"  # of MLflow, and what its migrations leave in a store
_COLUMNS = {  # "name position-in-the-primary-key" of each column of MLflow 3.17
    "metrics": "key 1, timestamp 2, step 3, run_uuid 4, value 5, is_nan 6",
    "latest_metrics": "key 1, run_uuid 2, value 0, timestamp 0, step 0, is_nan 0",
    "tags": "key 1, run_uuid 2, value 0",
    "params": "key 1, run_uuid 2, value 0",
    "runs": "run_uuid 1, name 0, source_type 0, source_name 0, entry_point_name 0, user_id 0, status 0, start_time 0, "
    "end_time 0, source_version 0, lifecycle_stage 0, artifact_uri 0, experiment_id 0, deleted_time 0",
    "datasets": "experiment_id 1, name 2, digest 3, dataset_uuid 0, dataset_source_type 0, dataset_source 0, "
    "dataset_schema 0, dataset_profile 0",
    "inputs": "source_type 1, source_id 2, destination_type 3, destination_id 4, input_uuid 0, step 0",
    "input_tags": "input_uuid 1, name 2, value 0",
}
_INSERT = """
    INSERT INTO metrics (key, timestamp, step, run_uuid, value, is_nan) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING"""
_UPSERT = """
    INSERT INTO latest_metrics (key, timestamp, step, run_uuid, value, is_nan) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value, is_nan = excluded.is_nan, timestamp = excluded.timestamp, step = excluded.step
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)"""
_TAG = """
    INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)
    ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value"""
_SET_STATUS = "UPDATE runs SET status = ?, end_time = coalesce(?, end_time) WHERE run_uuid = ?"
_CACHE = 65_536  # KiB; rows of many runs touch some thousand pages of the indexes
_IDS_PER_QUERY = 500  # run ids in one question; older SQLite takes 999

StoredRow = tuple[str, int, int, str, float, bool]  # in the order of _INSERT


class DeletedRunError(LookupError):
    """The store has no such run, or it was deleted."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the run {run_id} was deleted in MLflow, or is not there: reglab sync --rebuild")
        self.run_id = run_id


class ClaimedRunError(LookupError):
    """Another copy of the run's folder has resumed the run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(elsewhere(run_id))
        self.run_id = run_id


@dataclass(frozen=True)
class RunWrite:
    """What is written of one run; keys as MLflow takes them.

    Args:
        status: With its time in milliseconds.
        claims: Of its folder, see ``copies``.
    """

    run_id: str
    series: Mapping[str, Series] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    status: tuple[str, int] | None = None
    claims: Sequence[str] = ()


@lru_cache
def is_known(path: Path) -> bool:
    """Return whether the tables in ``path`` are those that plain SQL was written for here.

    Nor may anything act on what is written, see ``acting``.
    """
    with connection(path) as store:
        return acting(store) is None and all(
            {
                f"{name} {key_position}"
                for _, name, _, _, _, key_position in store.execute(f"PRAGMA table_info({table})")
            }
            == set(columns.split(", "))
            for table, columns in _COLUMNS.items()
        )


def acting(store: sqlite3.Connection) -> str | None:
    """Find triggers and views, which act on what is written into a store.

    MLflow's own trigger guards a table that runs do not use.

    Args:
        store: Open.

    Returns:
        The name of one; None where there is none.
    """
    found = store.execute(
        "SELECT name FROM sqlite_master WHERE type = 'view' OR (type = 'trigger' AND tbl_name <> 'secrets')"
    ).fetchone()
    return None if found is None else str(found[0])


def acting_error(path: Path, name: str) -> UserError:
    """Return the error of a store that has a trigger or view.

    Args:
        path: Of the store.
        name: Of the trigger or view.
    """
    return UserError(
        f"the store {path} has the trigger or view {inline(name)}, which no store of MLflow has and which could change "
        "what is recorded: move it away, then make it again from its runs' folders by reglab sync --rebuild"
    )


def is_current(path: Path) -> bool:
    """Return whether the installed MLflow opens ``path`` without a migration (MLflow not imported).

    Raises:
        sqlite3.Error: If the store fails.
    """
    try:
        if not version("mlflow").startswith(_VERSION):
            return False
    except PackageNotFoundError:  # as mlflow-skinny
        return False
    with connection(path) as store:
        return store.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def write(path: Path, runs: Sequence[RunWrite]) -> None:
    """Store rows, tags and statuses of different runs in one transaction.

    What is there already changes nothing. Rows go in key by key, so that neighbours in the indexes
    come together. The latest value of a key is the largest by (step, timestamp, value), as MLflow
    has it. Each run is looked up once, which is cheaper than a foreign key for each row.

    Raises:
        sqlite3.Error, DeletedRunError, ClaimedRunError: With nothing written.
    """
    series = [_stored(key, run.run_id, rows) for run in runs for key, rows in run.series.items()]
    series.sort(key=lambda item: item[1][0])
    tags = [(run.run_id, key, value) for run in runs for key, value in run.tags.items()]
    tags += [(run.run_id, CLAIM, run.claims[-1]) for run in runs if run.claims]
    statuses = [(run.run_id, *run.status) for run in runs if run.status]
    with transaction(path) as store:
        _check_active(store, [run.run_id for run in runs])
        _check_claims(store, runs)
        store.executemany(_INSERT, chain.from_iterable(rows for rows, _ in series))
        store.executemany(_UPSERT, [latest for _, latest in series])
        store.executemany(_TAG, tags)
        # a resumed run keeps its earlier end time, as with MLflow's own update_run
        store.executemany(
            _SET_STATUS, [(name, None if name == "RUNNING" else time, run) for run, name, time in statuses]
        )


def read_history(path: Path, run_id: str, keys: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each key, by step; a key without rows has an empty list."""
    history: dict[str, list[tuple[int, float]]] = {key: [] for key in keys}
    query = "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step, timestamp"
    with connection(path) as store:
        for key, points in history.items():
            for step, value, is_nan in store.execute(query, (run_id, key)):
                points.append((step, restored_value(value, bool(is_nan))))
    return history


def restored_value(value: float, is_nan: bool = False) -> float:
    """Return the value that MLflow keeps as ``value``: infinities are infinities again."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to ``path`` inside a transaction.

    All that is written through it, or, on an error, nothing.
    """
    with connection(path) as store:
        store.execute(f"PRAGMA cache_size = -{_CACHE}")
        # a commit must outlive a power loss, since what was sent is not sent again; some builds of
        # SQLite relax it
        store.execute("PRAGMA synchronous = FULL")
        store.execute("BEGIN IMMEDIATE")  # wait for other writers here, not half-way
        try:
            yield store
            store.execute("COMMIT")
        except BaseException:
            if store.in_transaction:  # a full disk has rolled back by itself
                store.execute("ROLLBACK")
            raise


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to the SQLite file at ``path``.

    Raises:
        sqlite3.Error: If there is none.
    """
    # mode=rw: a store that went away is an error, not a new empty file
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as store:
        yield store


def _check_active(store: sqlite3.Connection, run_ids: Sequence[str]) -> None:
    active: set[str] = set()
    for start in range(0, len(run_ids), _IDS_PER_QUERY):
        chunk = run_ids[start : start + _IDS_PER_QUERY]
        placeholders = ", ".join("?" * len(chunk))
        query = f"SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN ({placeholders})"
        active |= {run_id for (run_id,) in store.execute(query, chunk)}
    for run_id in run_ids:
        if run_id not in active:
            raise DeletedRunError(run_id)


def _check_claims(store: sqlite3.Connection, runs: Sequence[RunWrite]) -> None:
    query = "SELECT value FROM tags WHERE run_uuid = ? AND key = ?"
    for run in runs:
        row = store.execute(query, (run.run_id, CLAIM)).fetchone() if run.claims else None
        if row and is_claimed_elsewhere(run.claims, str(row[0])):
            raise ClaimedRunError(run.run_id)


def _stored(key: str, run_id: str, series: Series) -> tuple[Iterator[StoredRow], StoredRow]:
    """Return the rows of one key for the store, and the latest by (step, timestamp, value).

    The rows come one by one and leave no objects behind: thousands of them would keep the garbage
    collector busy.
    """
    timestamps, steps, values = series
    is_nan = [False] * len(values)
    if not math.isfinite(sum(values)):
        is_nan = list(map(math.isnan, values))
        values = list(map(_stored_value, values))
    last = len(steps) - 1
    if max(steps) > steps[last] or steps.count(steps[last]) > 1:
        last = max(range(len(steps)), key=lambda row: (steps[row], timestamps[row], values[row]))
    latest = (key, timestamps[last], steps[last], run_id, values[last], is_nan[last])
    return zip(repeat(key), timestamps, steps, repeat(run_id), values, is_nan, strict=False), latest


def _stored_value(value: float) -> float:
    return 0.0 if math.isnan(value) else min(max(value, -_LARGEST), _LARGEST)

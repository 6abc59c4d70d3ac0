"""SQLite stores with tables that plain SQL does not know, as those of another version of MLflow."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from reglab.tracking.mlflow import sql


@contextmanager
def unknown_tables(path: Path, unknown: bool = True) -> Iterator[None]:
    """Add a column inside the block, so that MLflow's own calls read and write the store.

    As they do a server's, which numbers runs by itself. Nothing is done unless ``unknown``.
    """
    if unknown:
        _alter(path, "ADD COLUMN note TEXT")
    try:
        yield
    finally:
        if unknown:
            _alter(path, "DROP COLUMN note")


def _alter(path: Path, change: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"ALTER TABLE inputs {change}")
    sql.is_known.cache_clear()  # tables change under a process in tests only

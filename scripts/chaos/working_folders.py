"""Working folders for runs that are disturbed, each with a store made in advance.

Migrations take seconds.
"""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
from commands import apart

_STORE = "empty.db"
MADE = "REGLAB_CHAOS_STORE"  # the variable that names a store made before


@contextmanager
def folder() -> Iterator[Path]:
    """Give a temporary folder with an empty store, ``empty.db``.

    It is kept where an error leaves the context.
    """
    path = Path(tempfile.mkdtemp(prefix="reglab-chaos-"))
    if made := os.environ.get(MADE):
        shutil.copy(made, path / _STORE)
    else:
        apart(_make_store, path / _STORE)
    try:
        yield path
    except BaseException:
        _end_those_in(path)
        print(f"what happened is kept in {path}", file=sys.stderr)
        raise
    _end_those_in(path)
    shutil.rmtree(path, ignore_errors=True)


def new_home(place: Path, name: str, *files: Path) -> Path:
    """Return a new working folder ``name`` in ``place``, with an empty store and copies of ``files``."""
    made = place / name
    made.mkdir(parents=True)
    shutil.copy(place / _STORE, made / "reglab.db")
    for file in files:
        shutil.copy(file, made)
    return made


def _make_store(path: Path) -> None:
    from reglab.tracking.mlflow.store import connect

    connect(f"sqlite:///{path}")
    # What is still in the log beside the file would not be copied.
    with closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _end_those_in(path: Path) -> None:
    """Kill the processes that are left of the commands that were started in ``path``."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, FileNotFoundError):
            if Path(process.cwd()).is_relative_to(path):
                process.kill()

"""A working folder that was moved with its runs and its SQLite store: new paths for old ones."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from reglab.tracking.admin.find import run_folders
from reglab.tracking.folder import FOLDER, JOURNAL, Identity, read_identity, write_identity
from reglab.tracking.journal import Journal
from reglab.tracking.lock import RunLock
from reglab.tracking.mlflow import sql
from reglab.tracking.run_state import WORKING_FOLDER
from reglab.tracking.settings import sqlite_path, store_uri

_URIS = (("experiments", "artifact_location"), ("runs", "artifact_uri"))
_REPLACE = "UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"


def adopt(folder: Path, old: Path, new: Path) -> None:
    """Have the runs in ``folder``, and the store that was moved along, name paths below ``new``.

    Where the store was not moved along, its address stays. It may be interrupted and done again.

    Args:
        folder: Of a run or sweep, below ``new``.
        old: The working folder that it was started in.
        new: Where all of it is now.

    Raises:
        Held: Where a process is running the run.
    """
    folder, old, new = folder.resolve(), old.absolute(), new.resolve()
    if old == new or not folder.is_relative_to(new):
        return
    lock = RunLock(folder)
    try:
        for path in run_folders([folder]):
            identity = read_identity(path)
            store = _moved_store(identity, old, new)
            if store is not None:
                if store.exists():
                    _rewrite(store, identity.run_id, old / path.relative_to(new), old, new)
                artifacts = identity.artifacts and _moved(identity.artifacts, old.as_uri(), new.as_uri())
                moved = replace(identity, uri=store_uri(store), artifacts=artifacts, place=str(path))
                write_identity(path, moved)
        journal = Journal(folder / JOURNAL)
        journal.record(tags={WORKING_FOLDER: str(new), FOLDER: str(folder)})
        journal.sync()
        journal.close()
    finally:
        lock.release()


def _moved_store(identity: Identity, old: Path, new: Path) -> Path | None:
    """Return where the SQLite store of a run is now; None where it did not move."""
    path = sqlite_path(identity.uri or "")
    if path is None or not path.is_relative_to(old):
        return None
    moved = new / path.relative_to(old)
    return None if path.exists() and not moved.exists() else moved


def _moved(text: str, old: str, new: str) -> str:
    return new + text.removeprefix(old) if text.startswith(f"{old}/") else text


def _rewrite(store: Path, run_id: str, recorded: Path, old: Path, new: Path) -> None:
    """Replace the paths in a store of the known version whose run was recorded in ``recorded``.

    Another store is left alone: a folder that somebody else wrote may name any working folder.
    """
    if not sql.is_known(store):
        return
    with sql.transaction(store) as connection:
        query = "SELECT value FROM tags WHERE run_uuid = ? AND key = ?"
        if connection.execute(query, (run_id, FOLDER)).fetchone() != (str(recorded),):
            return
        for table, column in _URIS:
            _replace(connection, _REPLACE.format(table=table, column=column), f"{old.as_uri()}/", f"{new.as_uri()}/")
        command = _REPLACE.format(table="tags", column="value") + f" AND key = '{FOLDER}'"
        _replace(connection, command, f"{old}/", f"{new}/")


def _replace(connection: sqlite3.Connection, command: str, old: str, new: str) -> None:
    connection.execute(command, (new, len(old) + 1, len(old), old))

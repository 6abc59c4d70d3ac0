"""Open an MLflow store; a new SQLite store is created under a lock."""

import logging
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from reglab.core.errors import UserError
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.denied import denied
from reglab.tracking.mlflow.limited import limited
from reglab.tracking.settings import TrackingSettings, beside, client_uri, redacted, sqlite_path, store_uri

EXPERIMENT = """\
Runs of **reglab**. A sweep is one parent run; its runs are its children (sort by *Created* to see them nested). The
verdict of a sweep is in the note of its parent run, and its report among that run's artifacts.

| metrics | what they are |
|---|---|
| `train/*`, `val/*`, `test/*` | the data loss and the score alone: evaluation mode, plain targets, no penalty in them |
| `*/loss` of a regression | squared error, not halved, of the standardized target; `*/rmse` is in its own units |
| `*/weighted_*` | each row counts as its class or sample weight lets it count in training |
| `gap/loss` = val - train, `gap/<score>` = train - val | above 0 means overfitting |
| `gap/*_low`, `gap/*_high` | interval over examples, for this trained model; not other seeds; NaN: too few errors |
| `naive_gap/loss` | val - the running loss of training, which the gap above replaces |
| `objective/*` | the terms of the minimized sum, each by itself |
| `weights/<parameter>/*`, `weights/all/*` | norms, exact zeros, distance from the start, size of the update |
| `final/*` | the same for the weights that the run stands for: sort and compare by these |

A gap also shrinks when training gets worse: read it beside `final/val/loss`.
"""
UNREACHABLE = (MlflowException, requests.RequestException, sqlite3.Error, OSError)
_LOCK_SECONDS = 120.0
_OF_MLFLOW = "alembic_version"  # a table of each of its stores
_NETWORK = re.compile(r"HTTPConnectionPool|NewConnectionError|failed with exception")
_NETWORK_REASONS = {  # part of a network error's long message -> reason
    "Connection refused": "connection refused: no server is listening there",
    "Failed to resolve": "no machine of that name is known",
    "Read timed out": "it does not answer in time",
    "ConnectTimeoutError": "it does not answer in time",
    "Connection aborted": "the connection broke off",
    "Connection reset": "the connection broke off",
}
_PASSWORD = re.compile(r"://[^/@\s]+@")

# Sixty lines of migrations in front of the first run.
for _name in ("alembic", "mlflow.store.db.utils"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def connect(uri: str, create: bool = True) -> MlflowClient:
    """Return a client of the store at ``uri``.

    A SQLite store that is not there yet is made, if ``create``.

    Args:
        uri: SQLite file or server.
        create: Create a SQLite store that does not exist.

    Raises:
        UserError: Where there is no store, or it is something else, or another MLflow's.
    """
    path = sqlite_path(uri)
    if path is None:
        # A server that is down is reported once by the sender; three lines a call here would break
        # the live table.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        return limited(MlflowClient(tracking_uri=client_uri(uri)), uri)
    if create:
        prepare(path)
    elif not _is_made(path):
        raise UserError(
            f"there is no store at {uri}: go to the folder where runs were made, or give the store's address (--uri); "
            "if it was deleted, reglab sync --rebuild makes it again from the runs' folders"
        )
    try:
        return MlflowClient(tracking_uri=client_uri(uri))
    except SQLAlchemyError as error:
        if "malformed" in str(error):
            raise UserError(
                f"the store {uri} is damaged ({reason(error)}): move it away, then make it again from its runs' "
                "folders by reglab sync --rebuild"
            ) from error
        raise UserError(
            f"MLflow cannot open the store {uri}, which it must be able to write, even to read it: {reason(error)}. "
            "Copy the store's folder to one of your own"
        ) from error
    except MlflowException as error:
        raise UserError(
            f"MLflow cannot open the store {uri}: {error.message} If another version of MLflow made it, move it "
            "away or set tracking.uri to a new file"
        ) from error


def prepare(path: Path) -> None:
    """Make the SQLite store at ``path`` unless it is there.

    Of several processes one makes it, the others wait. MLflow's own start on a fresh file is a race
    between processes. The file is migrated aside and then moved in place, so a store that exists is
    whole. Write-ahead logging, which stays set, lets readers and a writer overlap.
    """
    if _is_made(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            if not _is_made(path):
                _make(path)
    except Timeout:
        raise UserError(
            f"another process holds {path}.lock for {_LOCK_SECONDS:.0f} s: end it, then try again"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot make the store {path} ({error}): set tracking.uri to a file that you can write"
        ) from error


def experiment(client: MlflowClient, settings: TrackingSettings) -> Experiment:
    """Return the experiment, made with a note on how to read it if it is not there.

    Raises:
        UserError: Where the store cannot be reached, or the experiment was deleted.
    """
    name = settings.experiment
    try:
        existing = client.get_experiment_by_name(name)
        if existing is None:
            existing = _make_experiment(client, settings)
    except UNREACHABLE as error:
        if refusal := denied(error):
            raise UserError(f"{redacted(settings.uri)}, experiment {name!r}: {refusal}") from error
        raise UserError(
            f"cannot reach tracking.uri={redacted(settings.uri)} ({reason(error)}): start the server, or leave "
            "tracking.uri out for a local store, or use tracking=offline and send it later by reglab sync"
        ) from error
    if existing.lifecycle_stage != LifecycleStage.ACTIVE:
        raise UserError(
            f"the experiment {name!r} was deleted in MLflow: restore it there, or choose another tracking.experiment"
        )
    settings.check_artifacts(existing.artifact_location)
    return existing


def reason(error: Exception) -> str:
    """Return the first line of an error, shortened, passwords in addresses removed.

    Where a server refused the user, it is what to do about that.
    """
    if refusal := denied(error):
        return refusal
    text = str(error).strip() or type(error).__name__
    if _NETWORK.search(text):
        return next((message for sign, message in _NETWORK_REASONS.items() if sign in text), "it does not answer")
    return _PASSWORD.sub("://", text.splitlines()[0])[:200]


def _is_made(path: Path) -> bool:
    """Whether there is a store. SQLite itself looks.

    A file handle of ours, once closed, would release the locks of all connections that this process
    has to the file, and another process would delete their write-ahead log.
    """
    if path.is_dir():  # on which SQLite waits for a minute
        raise UserError(f"the store {path} is a folder: remove it, or set tracking.uri to a file")
    try:
        if not path.stat().st_size:
            return False
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCK_SECONDS)) as store:
            made = [(str(kind), str(name)) for kind, name in store.execute("SELECT type, name FROM sqlite_master")]
            acts = sql.acting(store)
    except FileNotFoundError:
        return False
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(
            f"cannot read the store {path} ({error}): is its disk full, or the file not yours to read? Mend that, or "
            "set tracking.uri to another file"
        ) from error
    except sqlite3.DatabaseError as error:
        if "malformed" in str(error) or _begins_as_sqlite(path):
            raise UserError(
                f"the store {path} is damaged ({error}): move it away, then make it again from its runs' folders by "
                "reglab sync --rebuild"
            ) from error
        raise UserError(f"{path} is not a SQLite file: move it away, or set tracking.uri to another one") from error
    if made and ("table", _OF_MLFLOW) not in made:
        raise UserError(f"{path} is the database of another program, which MLflow would change: give another store")
    if acts is not None:
        raise sql.acting_error(path, acts)
    return True


def _begins_as_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _make(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    store = SqlAlchemyStore(client_uri(store_uri(fresh)), beside(path))  # type: ignore[no-untyped-call]  # MLflow's
    store.engine.dispose()
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    fresh.replace(path)


def _make_experiment(client: MlflowClient, settings: TrackingSettings) -> Experiment:
    try:
        client.create_experiment(settings.experiment, settings.artifacts, {"mlflow.note.content": EXPERIMENT})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Perhaps by another process, which is as good.
    made = client.get_experiment_by_name(settings.experiment)
    if made is None:
        raise MlflowException(f"the experiment {settings.experiment!r} vanished while it was made")
    return made

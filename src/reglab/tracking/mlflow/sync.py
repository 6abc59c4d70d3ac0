"""``reglab sync``: create recorded runs in their MLflow stores and send their journals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.exceptions import MlflowException

from reglab.core.errors import UserError
from reglab.tracking.folder import (
    CREATED,
    IDENTITY,
    JOURNAL,
    START,
    Identity,
    has_records,
    is_pending,
    keep_start,
    make_pending,
    read_identity,
    write_identity,
)
from reglab.tracking.lock import Held, is_running
from reglab.tracking.mlflow.create import RunCreator, run_or_none
from reglab.tracking.mlflow.denied import denied
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.sink import OF_THE_RUN
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.payload import ROWS, Refused, Unsent
from reglab.tracking.run_start import Start, read_start
from reglab.tracking.sender import JournalCursor
from reglab.tracking.settings import TrackingSettings, artifact_root, redacted
from reglab.tracking.store_gate import check_store
from reglab.tracking.tracker import finish_killed

_RETRY_LATER = "nothing is lost: run the same command again when it is back"


@dataclass(frozen=True)
class Delivered:
    """What was delivered of a run.

    Args:
        messages: What was done, for people.
        rows: How many were sent.
        left: Which artifacts the store did not take, and why; all else is there.
    """

    messages: Sequence[str]
    rows: int = 0
    left: Sequence[str] = ()


class Delivery:
    """Delivers runs, parents first. An unreachable store is tried once.

    Args:
        folders: Their folders.
        uri: Where those go that were recorded offline, if not None.
        rebuild: Make runs again that their store does not have any more.
    """

    def __init__(self, folders: Sequence[Path], uri: str | None, rebuild: bool = False) -> None:
        self._uri, self._rebuild = uri, rebuild
        self._folders: dict[str, Path] = {}  # by the runs' own ids
        self._renamed: dict[str, str] = {}  # own id -> the id that a server gave
        for folder in folders:
            if identity := _identity(folder):
                self._folders |= dict.fromkeys(identity.ids, folder)
                self._renamed |= dict.fromkeys(identity.ids[1:], identity.run_id)
        self._creators: dict[TrackingSettings, RunCreator | UserError] = {}
        self._sinks: dict[str, LateSink] = {}
        self._unreachable: dict[str, str] = {}

    def deliver(self, folder: Path) -> Delivered:
        """Bring a run to its store, the caller having its lock, and return what was done.

        Raises:
            UserError: Where the store does not accept it.
            Held: If it has to wait for its sweep's process.
        """
        messages: list[str] = []
        identity = read_identity(folder)
        uri = self._store(folder, identity)
        if is_pending(folder) or self._rebuild:
            try:
                if not is_pending(folder) and not self._is_gone(folder, identity, uri):
                    return self._send(folder, identity, uri, messages)
                made, messages = self._make(folder, identity, uri)
            except UNREACHABLE as error:
                raise self._failure(uri, error) from error
            if made is None:
                return Delivered(messages)
            identity = made
        return self._send(folder, identity, uri, messages)

    def status(self, folder: Path) -> str | None:
        """Return the status that its store has of a run; None if it does not have the run.

        Raises:
            UserError: Where the store cannot be asked.
        """
        identity = read_identity(folder)
        uri = self._store(folder, identity)
        try:
            run = run_or_none(lambda: connect(uri).get_run(identity.run_id))
        except UNREACHABLE as error:
            raise self._failure(uri, error) from error
        return str(run.info.status) if run else None

    def _store(self, folder: Path, identity: Identity) -> str:
        """Return the store of a run, which the user named, and which was not away before."""
        uri = (self._uri if identity.offline and is_pending(folder) else None) or str(identity.uri)
        if message := self._unreachable.get(uri):
            raise UserError(message)
        # What was given may hold a user's name and password.
        if self._uri and redacted(self._uri) == uri:
            uri = self._uri
        check_store(uri, folder)
        return uri

    def _failure(self, uri: str, error: Exception) -> UserError:
        message = f"{redacted(uri)} could not store it ({reason(error)})"
        if not (isinstance(error, MlflowException) and error.error_code in OF_THE_RUN):
            message = self._unreachable[uri] = f"{message}; {_RETRY_LATER}"
        return UserError(message)

    def _is_gone(self, folder: Path, identity: Identity, uri: str) -> bool:
        """Return whether the store has lost a run, which is then to be made in it again."""
        if run_or_none(lambda: connect(uri).get_run(identity.run_id)):
            return False
        if not (folder / CREATED).exists():
            raise UserError(
                f"{redacted(uri)} does not have this run, and it was made by an earlier version of reglab, which kept "
                f"no {CREATED}: it cannot be made again; its rows are in {folder / JOURNAL}"
            )
        make_pending(folder)
        return True

    def _make(self, folder: Path, identity: Identity, uri: str) -> tuple[Identity | None, list[str]]:
        start = read_start(folder)
        artifacts = start.artifacts if redacted(uri) == identity.uri else artifact_root(None, uri, Path.cwd())
        creator = self._creator(TrackingSettings("mlflow", uri, start.experiment, artifacts))
        recorded = has_records(folder)
        # The process died before the run was created: there is nothing to deliver.
        if not recorded and creator.find(start) is None:
            (folder / START).unlink()
            (folder / IDENTITY).unlink()
            return None, ["discarded: its process was gone before the run started"]
        made = creator.create_once(self._translated(start, self._parent(folder, start, uri, creator)))
        local = start.run_id if made.run_id != start.run_id else None
        former = [each for each in identity.ids if each not in (made.run_id, local)]
        identity = replace(identity, run_id=made.run_id, artifacts=made.artifacts, uri=redacted(uri))
        identity = replace(identity, local=local, former=former)
        write_identity(folder, identity)
        keep_start(folder)
        self._renamed |= dict.fromkeys(identity.ids[1:], made.run_id)
        return identity, ["created in its store", *([] if recorded else finish_killed(folder, identity))]

    def _send(self, folder: Path, identity: Identity, uri: str, messages: Sequence[str]) -> Delivered:
        sink = self._sinks.setdefault(uri, LateSink(uri))
        cursor = JournalCursor(identity, folder)
        rows, left_before = None, list(cursor.left)
        try:
            while payload := cursor.read(ROWS):
                cursor.sync()
                sink.send([payload])
                cursor.send_artifacts(sink, payload.artifacts)
                cursor.acknowledge(payload)
                rows = (rows or 0) + payload.size
        except Refused as error:
            raise UserError(str(error)) from error
        except Unsent as error:
            self._unreachable[uri] = f"{error}; {_RETRY_LATER}"
            raise UserError(self._unreachable[uri]) from error
        cursor.send_artifacts(sink, left_before)
        stored = len(left_before) - len(cursor.left.keys() & set(left_before))
        done = [f"{rows:,} row{'' if rows == 1 else 's'} sent"] if rows is not None else []
        done += [f"{stored} artifact{'' if stored == 1 else 's'} stored that had been left"] if stored else []
        left = [f"the artifact {name} is left: {why}" for (name, _), why in cursor.left.items()]
        return Delivered([*messages, *done], rows or 0, left)

    def _creator(self, settings: TrackingSettings) -> RunCreator:
        if settings not in self._creators:
            try:
                self._creators[settings] = RunCreator(settings)
            except UserError as error:
                self._creators[settings] = _for_sync(error, settings.uri)
        creator = self._creators[settings]
        if isinstance(creator, UserError):
            raise creator
        return creator

    def _parent(self, folder: Path, start: Start, uri: str, creator: RunCreator) -> str | None:
        """Return the id in the store of the run's sweep, which must be there first."""
        if start.parent is None:
            return None
        for path in (*folder.parents, self._folders.get(start.parent, folder)):
            identity = _identity(path)
            if identity is None or start.parent not in identity.ids:
                continue
            if not is_pending(path) and identity.uri == redacted(uri):
                self._renamed[start.parent] = identity.run_id
                return identity.run_id
            if is_running(path):
                raise Held(f"the sweep in {path} is still running")
        store_id = creator.store_id(start.parent)
        if store_id is None:
            raise UserError(f"its sweep {start.parent} is not in {redacted(uri)}: give the sweep's folder, too")
        return store_id

    def _translated(self, start: Start, parent: str | None) -> Start:
        def named(values: Mapping[str, str]) -> dict[str, str]:
            return {key: self._renamed.get(value, value) for key, value in values.items()}

        return replace(start, parent=parent, params=named(start.params), tags=named(start.tags))


def _for_sync(error: UserError, uri: str) -> UserError:
    """Return the error of a store that cannot be opened, worded for ``reglab sync``."""
    why = error.__cause__
    if not isinstance(why, UNREACHABLE) or denied(why):
        return error
    return UserError(f"cannot reach {redacted(uri)} ({reason(why)}); {_RETRY_LATER}")


def _identity(folder: Path) -> Identity | None:
    try:
        return read_identity(folder)
    except (UserError, OSError):  # none, damaged, or not readable
        return None

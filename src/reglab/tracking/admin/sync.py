"""``reglab sync``: send runs and rows that the stores do not have yet, each once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.admin.find import run_folders
from reglab.tracking.copies import check_original
from reglab.tracking.folder import (
    CREATED,
    JOURNAL,
    LEFT,
    RESULTS,
    SENT,
    START,
    Identity,
    has_records,
    is_move_unfinished,
    is_pending,
    move_earlier_run,
    read_identity,
)
from reglab.tracking.lock import Held, RunLock, is_running
from reglab.tracking.run_start import read_start
from reglab.tracking.run_state import last_status
from reglab.tracking.sender import is_cut, read_position
from reglab.tracking.settings import redacted
from reglab.tracking.store_gate import name_store
from reglab.tracking.tracker import finish_killed

if TYPE_CHECKING:
    from reglab.tracking.mlflow.sync import Delivery


@dataclass
class SyncResult:
    """What a sync came to.

    Args:
        runs: Those of which something was delivered.
        running: Left to their living processes.
        refused: What could not be delivered, and why; nothing of it is lost.
        left: How many artifacts the stores did not take of runs that they have otherwise.
        lost: Those refused since their journals are not whole.
    """

    runs: int = 0
    rows: int = 0
    running: int = 0
    refused: dict[Path, str] = field(default_factory=dict)
    left: int = 0
    lost: set[Path] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether all is delivered, less what is running."""
        return not self.refused and not self.left

    def refuse(self, folder: Path, error: Exception) -> list[str]:
        """Note why a run is not delivered, and return the message, unless it was told before."""
        reason = str(error) if isinstance(error, UserError | OSError) else _unforeseen(folder, error)
        known = reason in self.refused.values()
        self.refused[folder] = reason
        if isinstance(error, JournalLost):
            self.lost.add(folder)
        return [] if known else [f"refused: {reason}"]

    def __str__(self) -> str:
        parts = [f"delivered {_count(self.runs, 'run')}, {_count(self.rows, 'row')}"]
        if self.running:
            parts.append(f"{self.running:,} still running")
        if self.left:
            parts.append(f"{_count(self.left, 'artifact')} left")
        if self.refused:
            reasons = len(set(self.refused.values()))
            why = "the reason" if reasons == 1 else f"the {reasons} reasons"
            parts.append(f"{len(self.refused):,} refused, for {why} above")
        return "; ".join(parts)


def sync(
    folders: Sequence[Path], uri: str | None = None, say: Callable[[str], object] = print, rebuild: bool = False
) -> SyncResult:
    """Deliver the runs below ``folders`` to their stores, print what was done, and return it.

    A run whose process died is finished as KILLED; one that is not in its store yet is
    made there; then all that its journal holds is sent. It may be interrupted anywhere and done
    again. A run that a living process holds is left alone.

    Args:
        uri: The store of runs that were recorded with ``tracking=offline`` and are in none yet, in
            place of their own. Stores that only folders name are refused (``check_store``).
        rebuild: Make and send again all runs that their stores do not have any more.

    Raises:
        UserError: Where no run is found.
    """
    name_store(uri)
    result = SyncResult()
    runs = [moved for folder in run_folders(folders) if (moved := _finish_move(folder, result, say))]
    if not runs and not result.refused:
        raise UserError(
            f"no run below {', '.join(map(str, folders))}: give the folder of a run or sweep, or one above it"
        )
    work = _Work(runs, uri, rebuild)
    for folder in sorted(runs, key=_order):
        try:
            messages = work.on(folder, result)
        except Held:
            result.running += 1
            continue
        except Exception as error:  # noqa: BLE001 - one run's fault costs one run
            messages = result.refuse(folder, error)
        if messages:
            say(f"{inline(folder)}: {', '.join(messages)}")
    say(str(result))
    return result


class JournalLost(UserError):  # noqa: N818 - a state of a folder
    """A run's journal has lost what its store, or its folder, has of it."""


class _Work:
    """What is done to one run after the other.

    MLflow is imported for the first one that has something to send.
    """

    def __init__(self, runs: Sequence[Path], uri: str | None, rebuild: bool) -> None:
        self._runs, self._uri, self._rebuild = runs, uri, rebuild
        self._delivery: Delivery | None = None

    def on(self, folder: Path, result: SyncResult) -> list[str]:
        """Do what is left to be done for one run, and return the messages about it."""
        identity = read_identity(folder)
        if _is_done(folder, identity) and not (self._rebuild and identity.uri):
            return []
        if is_running(folder):  # answered at once, for a lock is tried for some time
            raise Held(f"the run in {folder} is running")
        check_original(folder, identity)
        lock = RunLock(folder)
        try:
            self._check_journal(folder, identity)
            messages = finish_killed(folder, identity) if has_records(folder) or not is_pending(folder) else []
            if identity.uri is not None:
                messages += self._deliver(folder, result)
            return messages
        finally:
            lock.release()

    def _check_journal(self, folder: Path, identity: Identity) -> None:
        """Check that the journal has not lost the run's end: what it lost must not end the run anew.

        Raises:
            JournalLost: It has; the run stays as it is, here and in its store.
        """
        path = folder / JOURNAL
        if is_pending(folder):
            if not has_records(folder) and any((folder / name).exists() for name in RESULTS):
                raise JournalLost(
                    f"{path} is gone or empty, but the run has results: put it back from a copy; nothing is removed"
                )
        elif identity.uri and (is_cut(folder) or not has_records(folder)) and last_status(folder) == "RUNNING":
            status = self._delivery_of_runs().status(folder)
            if status not in (None, "RUNNING"):
                raise JournalLost(
                    f"{path} is damaged: it has lost rows that {redacted(identity.uri)} has, where the run is {status} "
                    "and stays so. Put the file back from a copy, if you have one"
                )

    def _delivery_of_runs(self) -> "Delivery":
        if self._delivery is None:
            from reglab.tracking.mlflow.sync import Delivery

            self._delivery = Delivery(self._runs, self._uri, self._rebuild)
        return self._delivery

    def _deliver(self, folder: Path, result: SyncResult) -> list[str]:
        delivered = self._delivery_of_runs().deliver(folder)
        result.runs += bool(delivered.messages)
        result.rows += delivered.rows
        result.left += len(delivered.left)
        return [*delivered.messages, *delivered.left]


def is_sent(folder: Path) -> bool:
    """Return whether the store has all of the run in ``folder``, which has one."""
    size = (folder / JOURNAL).stat().st_size if has_records(folder) else 0
    whole = size > 0 and read_position(folder / SENT, size) == size
    return whole and not is_pending(folder) and not (folder / LEFT).exists()


def _is_done(folder: Path, identity: Identity) -> bool:
    return (identity.uri is None or is_sent(folder)) and last_status(folder) != "RUNNING"


def _finish_move(folder: Path, result: SyncResult, say: Callable[[str], object]) -> Path | None:
    """Finish an interrupted move of an earlier run, and return the run's folder; None if it fails."""
    try:
        if is_move_unfinished(folder) and not is_running(folder):
            lock = RunLock(folder)
            try:
                return move_earlier_run(folder) or folder
            finally:
                lock.release()
    except (UserError, OSError) as error:
        for message in result.refuse(folder, error):
            say(f"{inline(folder)}: {message}")
        return None
    return folder


def _unforeseen(folder: Path, error: Exception) -> str:
    return f"the files of {folder} cannot be delivered as they are ({describe_error(error)}); they are left untouched"


def _order(folder: Path) -> tuple[bool, int]:
    """Parents first, and a job of a path after the one before it.

    Runs refer to each other by their ids.
    """
    try:
        name = next((name for name in (START, CREATED) if (folder / name).exists()), None)
        start = read_start(folder, name) if name else None
    except UserError:  # reported when it is delivered
        start = None
    return (start.parent is not None, start.time) if start else (False, 0)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

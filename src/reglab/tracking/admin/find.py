"""Find the folder of a run by path, id or name."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.folder import (
    EARLIER,
    FOLDER,
    IDENTITY,
    JOURNAL,
    Identity,
    check_not_folder,
    is_id_prefix,
    read_identity,
)
from reglab.tracking.run_state import last_status

RUNS = Path("runs")
_SHOWN = 8


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """Return the folders below ``folders``, and themselves, that hold a run, or what is left of one.

    Links are not followed.

    Raises:
        UserError: For a folder that is not there.
    """
    stack = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}: give the folder of a run or sweep, or one above it")
        stack.append(folder.resolve())
    folders_with_run: set[Path] = set()
    while stack:
        folder = stack.pop()
        with suppress(PermissionError), os.scandir(folder) as entries:  # another user's
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif _is_of_run(entry, folder):
                    folders_with_run.add(folder)
    return sorted(folders_with_run)


def find_folder(uri: str, run: str | Path) -> Path:
    """Return the folder of a run or sweep, given its folder, id, start of an id, or name.

    Args:
        uri: The store that is searched where ``runs/`` in the working folder has no match.
        run: Folder, id, start of an id (six characters or more) or name.

    Raises:
        UserError: Where there is no such run, where several have that name, or where its folder is
            not on this machine.
    """
    if (Path(run) / IDENTITY).is_file():
        return Path(run).resolve()
    check_not_folder(run)
    local_runs = list(_runs_here())
    for folder, identity in local_runs:
        if str(run) in (identity.run_id, identity.local):
            return folder
    from reglab.tracking.mlflow.read import find_runs  # late: mlflow
    from reglab.tracking.run_record import RunRecord

    current = [(path, identity) for path, identity in local_runs if not _is_earlier(path)]
    named = {identity.run_id: path for path, identity in current if identity.name == str(run)}
    prefixed = {identity.run_id: path for path, identity in local_runs if is_id_prefix(identity.run_id, str(run))}
    matches = named or prefixed
    records: list[RunRecord] = []
    try:
        records = find_runs(uri, run)
    except UserError:
        if not matches:  # else they were never sent, or the store is away
            raise
    for record in records:
        folder = Path(record.tags.get(FOLDER, ""))
        if _holds(folder, record.run_id):
            matches[record.run_id] = folder
    if len(matches) > 1:
        raise UserError(_ambiguous(str(run), matches))
    if matches:
        return next(iter(matches.values()))
    record = records[0]
    where = record.tags.get(FOLDER) or "an unknown folder"
    raise UserError(
        f"the run {record.name} ({record.run_id}) was recorded in {where}, which does not hold it on this machine: "
        "copy that folder here and give it instead of the name"
    )


def _is_of_run(entry: os.DirEntry[str], folder: Path) -> bool:
    """Return whether a file says that ``folder`` holds a run, whose identity may be lost."""
    if entry.name == IDENTITY:
        return entry.is_file(follow_symlinks=False)
    return entry.name == JOURNAL and not _is_earlier(folder)


def _is_earlier(folder: Path) -> bool:
    """Return whether ``folder`` holds an earlier run that another one replaced."""
    return folder.name.startswith(EARLIER)


def _holds(folder: Path, run_id: str) -> bool:
    with suppress(UserError, OSError):
        identity = read_identity(folder)
        return run_id in (identity.run_id, identity.local)
    return False


def _ambiguous(name: str, folders: Mapping[str, Path]) -> str:
    """Return the message that lists what ``name`` may mean, newest first."""
    newest = sorted(folders.items(), key=lambda item: _age(item[1]), reverse=True)
    lines = [
        f"  {inline(_status(folder)):<8}  {inline(run_id)}  {inline(folder)}" for run_id, folder in newest[:_SHOWN]
    ]
    more = [f"  and {len(newest) - _SHOWN} more"] if len(newest) > _SHOWN else []
    return "\n".join([f"{name!r} matches {len(newest)} runs: give the folder or the id of one", *lines, *more])


def _age(folder: Path) -> float:
    with suppress(OSError):
        return (folder / IDENTITY).stat().st_mtime
    return 0.0


def _status(folder: Path) -> str:
    with suppress(UserError, OSError):
        return last_status(folder)
    return "elsewhere"


def _runs_here() -> Iterator[tuple[Path, Identity]]:
    for folder in run_folders([RUNS]) if RUNS.is_dir() else []:
        with suppress(UserError, OSError):  # damaged by a crash
            yield folder, read_identity(folder)

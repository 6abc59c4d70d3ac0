"""Runs by their folders."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from reglab.errors import UserError
from reglab.tracking.folder import FOLDER, IDENTITY, Identity, read_identity

RUNS = Path("runs")


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """Return the folders below ``folders``, and themselves, that hold a run; links are not followed.

    Raises UserError for a folder that is not there.
    """
    left = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}: give the folder of a run, of a sweep, or of many")
        left.append(folder.resolve())
    found: set[Path] = set()
    while left:
        folder = left.pop()
        with suppress(PermissionError), os.scandir(folder) as entries:  # somebody else's
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry.path))
                elif entry.name == IDENTITY and entry.is_file(follow_symlinks=False):
                    found.add(folder)
    return sorted(found)


def find_folder(uri: str, run: str | Path) -> Path:
    """Return the folder of the run, or sweep, that ``run`` means: its folder, its id, or its name (the newest).

    uri: the store that is asked for what ``runs/`` in the working folder does not tell. Raises UserError where there is
    no such run, or its folder is not on this machine.
    """
    if (Path(run) / IDENTITY).is_file():
        return Path(run).resolve()
    here = list(_runs_here())
    for folder, identity in here:
        if str(run) in (identity.run_id, identity.local):
            return folder
    from reglab.tracking.mlflow_read import find_run  # late: mlflow

    named = [folder for folder, identity in here if identity.name == str(run)]
    try:
        record = find_run(uri, run)
    except UserError:
        if not named:
            raise
        return max(named, key=lambda folder: (folder / IDENTITY).stat().st_mtime)  # never sent, or the store is away
    folder = Path(record.tags.get(FOLDER, ""))
    with suppress(UserError, OSError):
        identity = read_identity(folder)
        if record.run_id in (identity.run_id, identity.local):
            return folder
    where = record.tags.get(FOLDER) or "an unknown folder"
    raise UserError(
        f"the run {record.name} ({record.run_id}) was recorded in {where}, which does not hold it on this machine: "
        "bring that folder here and give it in place of the name"
    )


def _runs_here() -> Iterator[tuple[Path, Identity]]:
    for folder in run_folders([RUNS]) if RUNS.is_dir() else []:
        with suppress(UserError, OSError):  # death may have come while it was written
            yield folder, read_identity(folder)

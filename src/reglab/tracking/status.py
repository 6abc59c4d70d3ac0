"""Last status of a run, read from its journal."""

import json
import mmap
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.folder import (
    IDENTITY,
    JOURNAL,
    Identity,
    shell_path,
)
from reglab.tracking.tracker import RunTracker

_KEY = b'"status":'


def last_status(folder: Path) -> str:
    """Return the last status in the journal of the run in ``folder``; RUNNING if none is recorded.

    It is searched from the end, so that a run of a million rows is answered at once.

    Raises:
        UserError: Where ``folder`` holds no run.
    """
    if not has_records(folder) and (folder / IDENTITY).exists():
        return "RUNNING"
    try:
        with (folder / JOURNAL).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as journal:
            return _search(journal)
    except OSError as error:
        raise UserError(f"{folder} holds no run that can be read ({error}): give the folder of a run") from error


def has_records(folder: Path) -> bool:
    """Return whether the journal of the run in ``folder`` holds anything."""
    journal = folder / JOURNAL
    return journal.exists() and journal.stat().st_size > 0


def _search(journal: mmap.mmap) -> str:
    end = journal.rfind(b"\n") + 1  # behind it: a line that is being written, or was torn
    while (position := journal.rfind(_KEY, 0, end)) >= 0:
        start = journal.rfind(b"\n", 0, position) + 1
        try:
            content = json.loads(journal[start : journal.find(b"\n", position)])
        except ValueError:  # zeros that a power loss left
            content = None
        if isinstance(content, dict) and "status" in content:
            return str(content["status"])
        end = start
    return "RUNNING"


def finish_killed(folder: Path, identity: Identity) -> list[str]:
    """End the run in ``folder`` KILLED if no end is recorded, and return the messages about it.

    The caller has its lock.
    """
    if last_status(folder) != "RUNNING":
        return []
    run = RunTracker(identity, folder, sender=None)
    run.tag(**{"reglab.message": "its process was gone"})
    run.finish("KILLED")
    return [f"ended KILLED, since its process was gone (to resume: reglab resume {shell_path(folder)})"]

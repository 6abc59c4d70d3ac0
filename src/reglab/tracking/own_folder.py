"""A run writes into a folder of its own: not over files that were there before."""

import re
from collections.abc import Collection
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.folder import IDENTITY, JOURNAL, SENT, START, shell_path
from reglab.tracking.folder_gate import check_name
from reglab.tracking.lock import LOCK

# What stands there before the run has an identity, as after a crash, or while another rank begins.
_FILES = (IDENTITY, JOURNAL, SENT, START, LOCK, "sweep.lock", "sweep.pid", "multirun.yaml", "error.txt")
_OWN = re.compile(r"rank\d+|\..+\.\d+\.partial")  # folders of ranks, and what is about to be moved in place
_WRITTEN = ("config.yaml", "checkpoints", "metrics.parquet", "params.json", "note.md")
_SHOWN = 3


def check_own_folder(folder: Path, key: str, known: Collection[str] = ()) -> None:
    """Refuse a folder that holds anything but a run, before the first file is written to it.

    One that holds a run has an identity: the run is resumed, or moved to make room.

    Args:
        folder: Where a run or sweep will write; it need not exist.
        key: The config key that names it, for the message.
        known: Names that whoever starts the run writes there before.

    Raises:
        UserError: It holds other files, or is a file itself.
    """
    check_name(folder.absolute())
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{key}={folder} cannot be a run's folder ({error}): give a new folder") from error
    own = {*_FILES, *known, *(name for name in names if _OWN.fullmatch(name) or (folder / name / IDENTITY).is_file())}
    if not (folder / IDENTITY).is_file():  # asked last: another rank may be opening the run
        _refuse(folder, key, [name for name in names if name not in own])


def check_nothing_overwritten(folder: Path) -> None:
    """Refuse a folder without a run that holds files of the names that a run writes.

    Raises:
        UserError: Naming them.
    """
    if not any((folder / name).exists() for name in (IDENTITY, JOURNAL)):
        _refuse(folder, "folder", [name for name in _WRITTEN if (folder / name).exists()])


def _refuse(folder: Path, key: str, foreign: list[str]) -> None:
    if foreign:
        shown = ", ".join(f"{name!a}" for name in foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
        raise UserError(
            f"{key}: {shell_path(folder)} holds {shown}, which no run of reglab wrote and this one could overwrite: "
            "give a new folder, or leave the setting out"
        )

"""Local artifacts: hard-link or copy files into a store's artifact folder."""

import logging
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from reglab.core.errors import UserError
from reglab.tracking.folder_gate import is_plain
from reglab.tracking.settings import local_path

_log = logging.getLogger(__name__)
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_LINK_FROM = 1 << 20  # bytes
# Files that are replaced, never changed in place, can be hard links.
_REPLACED = (".ckpt", ".npz", ".parquet")


def link_or_copy(source: Path, folder: Path) -> None:
    """Put a file, or the files of a folder, into ``folder``, replacing those of the same name.

    Checkpoints, arrays and files from 1 MiB on are hard-linked where the file system can, so that
    they take their space once; small ones of other kinds (which people edit) are copied.
    """
    if source.is_dir():
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            link_or_copy(file, folder / file.parent.relative_to(source))
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{source.name}.new"
    temporary.unlink(missing_ok=True)
    linkable = source.suffix in _REPLACED or source.stat().st_size >= _LINK_FROM
    if not linkable or not _linked(source, temporary):
        shutil.copy2(source, temporary)
    temporary.replace(folder / source.name)
    # Replacing a file by a link to itself does nothing, and leaves the second name.
    temporary.unlink(missing_ok=True)


def storable(home: Path, name: str, folder: str, run_id: str) -> Path | None:
    """Return the path of the artifact ``name`` of the run in ``home``.

    None, after a warning, if it cannot be stored.

    Args:
        folder: Where it is to go below the run's artifacts in the store.
    """
    path = home / name
    if not path.exists():  # it will not come back: sending again cannot help
        _log.warning("the artifact %s of run %s is gone: it was removed before it was stored", path, run_id)
        return None
    if not is_plain(path):
        _log.warning("the artifact %s of run %s is not stored: it is, or holds, no plain file", path, run_id)
        return None
    if leads_out(folder) or escapes(path, home):  # the folder may be from another user
        _log.warning(
            "the artifact %s of run %s is not stored: its path or target %r leads out of the run's folder. Replace "
            "the link by a copy", path, run_id, folder,
        )  # fmt: skip
        return None
    return path


def local_home(uri: str | None, run_id: str) -> Path | None:
    """Return the local folder in which a store keeps the artifacts of a run; None: it is elsewhere.

    A store may be from somebody else, and name any folder of this machine: only one of the form
    ``.../RUN_ID/artifacts``, which MLflow gives, is read or written.

    Args:
        uri: Of the run's artifacts, as the store has it.
        run_id: Of the run.

    Raises:
        UserError: For another folder.
    """
    home = local_path(uri)
    if home is None:
        return None
    real = Path(os.path.realpath(home))
    if not (_ID.fullmatch(run_id) and real.parts[-2:] == (run_id, "artifacts")):
        raise UserError(
            f"the store says that the artifacts of the run {run_id} are in {home}, which is no folder of artifacts: "
            "its name would end in RUN/artifacts. Nothing there is touched"
        )
    return home


def leads_out(folder: str) -> bool:
    """Return whether ``folder``, below a run's artifacts, leads out of them."""
    parts = PurePosixPath(folder.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or "\0" in folder or Path(folder).is_absolute()


def escapes(path: Path, home: Path) -> bool:
    """Return whether ``path`` or a file below it resolves to outside of ``home``."""
    home = home.resolve()
    below = path.rglob("*") if path.is_dir() else ()
    return any(not each.resolve().is_relative_to(home) for each in (path, *below))


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another device, or a file system without links
        return False
    return True

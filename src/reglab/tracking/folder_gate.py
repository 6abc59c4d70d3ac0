"""Gate for folders of runs: plain files and folders only, no link out of them.

A run's folder may be from somebody else. A link in it would have us write or send files that lie
elsewhere, a second name (hard link) change a file elsewhere, and a pipe have us wait for ever.
"""

import os
from collections.abc import Callable
from pathlib import Path

from reglab.core.errors import UserError
from reglab.core.terminal import bash_word, inline, word

FILE_OF_A_RUN = "run.json"
# Files that are changed in place: one with a second name would change the other file as well.
_IN_PLACE = ("journal.jsonl", "journal.sent.new", "run.lock", "sweep.lock", "sweep.pid", "error.txt", "params.json")
# Files of a run or sweep: a folder in the place of one is damage, which no command can read.
_FILES = (*_IN_PLACE, FILE_OF_A_RUN, "start.json", "created.json", "journal.sent", "artifacts.left", "pack.json",
          "config.yaml", "multirun.yaml", "metrics.parquet")  # fmt: skip
_FILE_SUFFIXES = (".ckpt", ".pt")
# Folders in a run's folder that we write to or read; others are the user's own programs'.
_OURS = ("checkpoints", "attached", ".hydra")
_OURS_NUMBERED = ("earlier-", "rank")


def check_run_folder(folder: Path) -> Path:
    """Return ``folder`` if it can be read and written as a run without touching anything else.

    The folders of other runs in it are not looked at: each is checked when it is used. Nor are
    those that the user's programs made, or linked.

    Raises:
        UserError: Naming the link, pipe or device in it.
    """
    _check(folder, _is_ours)
    return folder


def check_sweep_folder(folder: Path) -> Path:
    """Return ``folder`` if it and the folders of its jobs are as ``check_run_folder`` wants them.

    Raises:
        UserError: Naming the link, pipe or device in it.
    """
    _check(folder, _anything)
    return folder


def check_name(folder: Path) -> None:
    """Refuse a folder whose path has characters that no terminal, store and address takes.

    These are control characters, those that turn the direction of text, and bytes that are no
    UTF-8. Nor may it hold an interpolation, which would have configurations name another folder.

    Args:
        folder: Absolute; each folder above it is checked too.

    Raises:
        UserError: With the command that renames the first such folder.
    """
    for path in (*reversed(folder.parents), folder):
        text = str(path)
        steers = text != inline(text) or text.encode(errors="replace").decode() != text
        if steers or "${" in text:
            what = "characters that steer a terminal" if steers else "'${', which configurations replace by a value"
            raise UserError(
                f"the name of the folder {_shown(text)} has {what}: rename it, as by mv -- {bash_word(text)} "
                f"{word(path.with_name('NEW-NAME'))}"
            )


def _shown(path: str) -> str:
    return inline(os.fsencode(path).decode(errors="backslashreplace"))


def is_plain(path: Path) -> bool:
    """Return whether ``path`` is a plain file, or a folder that holds only such and folders.

    Links count as what they lead to, in a folder as well.
    """
    if path.is_dir():
        return all(each.is_dir() or each.is_file() for each in path.rglob("*"))
    return path.is_file()


def _check(top: Path, enters: Callable[[Path], bool]) -> None:
    """Check the folder ``top``, and those below it that are ours or that ``enters`` is true for.

    In the folder of a job (it has an identity) other folders are its user's and are left.
    """
    check_name(top)
    home, stack = top.resolve(), [(top, enters)]
    while stack:
        folder, wanted = stack.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # reported by who needs it
        if folder != top and any(entry.name == FILE_OF_A_RUN for entry in entries):
            wanted = _is_ours
        for entry in entries:
            path = Path(entry.path)
            if wanted is _is_ours and entry.is_symlink() and path.is_dir() and not _is_ours(path):
                continue  # of the user's program, as to its data: nothing of ours is opened behind it
            _check_entry(entry, home)
            if entry.is_dir(follow_symlinks=False) and wanted(path):
                stack.append((path, wanted if wanted is not _is_ours else _anything))


def _is_ours(path: Path) -> bool:
    return path.name in _OURS or path.name.startswith(_OURS_NUMBERED)


def _anything(path: Path) -> bool:
    return True


def _check_entry(entry: os.DirEntry[str], home: Path) -> None:
    path = inline(entry.path)
    if entry.is_symlink():
        if not Path(os.path.realpath(entry.path)).is_relative_to(home):  # which a circle of links does not stop
            raise UserError(f"{path} is a link out of the run's folder: put the file itself there")
        return
    if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
        raise UserError(f"{path} is neither a file nor a folder but a pipe, socket or device: remove it")
    if entry.is_dir(follow_symlinks=False):
        if entry.name in _FILES or entry.name.endswith(_FILE_SUFFIXES):
            raise UserError(f"{path} is a folder, where a run has a file: put the file back, or move the folder away")
        return
    if entry.name in _IN_PLACE or entry.name.endswith(".log"):
        try:
            names = entry.stat(follow_symlinks=False).st_nlink
        except FileNotFoundError:  # it went since the folder was listed
            return
        if names > 1:
            raise UserError(
                f"{path} has a second name elsewhere (a hard link), which would change too: put a copy there"
            )

"""Disk usage of runs, and which files can be removed."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from reglab.tracking.admin.sync import is_sent
from reglab.tracking.folder import IDENTITY, JOURNAL, read_identity
from reglab.tracking.run_state import last_status

_PARTIAL = re.compile(r"\..+\.(\d+)\.partial")
# The manifest is removed first: without it the others are unused.
_PACK = ("pack.json", "pack.ckpt", "pack.previous.ckpt")
_CATEGORIES = {
    ".ckpt": "checkpoints",
    ".pt": "checkpoints",
    ".npz": "per-example losses",
    ".parquet": "full series",
    ".partial": "leftovers of crashes",
}


@dataclass(frozen=True)
class Freeable:
    """Files or folders of one run that can go.

    Args:
        why: What they are, for people.
    """

    why: str
    paths: tuple[Path, ...]

    @property
    def files(self) -> list[Path]:
        """All files of it."""
        return [file for path in self.paths for file in (_files(path) if _is_folder(path) else [path])]

    @property
    def bytes(self) -> int:
        """Bytes that are freed. A file with another hard link (an artifact) frees none."""
        stats = [stat for file in self.files if (stat := _stat(file))]
        names = Counter((stat.st_dev, stat.st_ino) for stat in stats)
        files_by_inode = {(stat.st_dev, stat.st_ino): stat for stat in stats}
        return sum(stat.st_size for file, stat in files_by_inode.items() if names[file] >= stat.st_nlink)

    def remove(self) -> None:
        """Free it. Links are removed, not followed."""
        for path in self.paths:
            if _is_folder(path):
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def size(file: Path) -> int:
    """Return the bytes of a file, 0 where it has gone meanwhile."""
    stat = _stat(file)
    return stat.st_size if stat else 0


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.lstat()
    except FileNotFoundError:
        return None


def files_of_run(folder: Path) -> list[Path]:
    """Return the files of the run in ``folder``, without those of runs below it."""
    return list(_files(folder, without_runs=True))


def category(file: Path) -> str:
    """Return the category of a run's file, for the table of disk usage."""
    return "journals" if file.name == JOURNAL else _CATEGORIES.get(file.suffix, "other files")


def freeable(folder: Path, deleted: Mapping[str, Path | None]) -> list[Freeable]:
    """Return what of the run in ``folder`` can go.

    A journal never goes: whether a run finished, which of its weights count, and which rows it has
    when it is extended, is read there. The run must not be running.

    Args:
        deleted: The store's deleted runs by id, with the folders of artifacts that may go with
            them (``mlflow.read.deleted_runs``).

    Raises:
        UserError: Where ``folder`` holds no run.
    """
    identity = read_identity(folder)
    files = files_of_run(folder)
    if identity.run_id in deleted and is_sent(folder):
        return [Freeable("runs deleted in MLflow", (*_parts(folder), *_artifacts(deleted[identity.run_id])))]
    items = [Freeable("leftovers of crashes", tuple(file for file in files if _is_leftover(file)))]
    if last_status(folder) == "FINISHED":
        earlier = tuple(file for file in files if file.name.endswith(".previous.ckpt") and file.name not in _PACK)
        items.append(Freeable("earlier checkpoints of finished runs", earlier))
    if _sweep_is_finished(folder):
        pack = tuple(folder / name for name in _PACK if (folder / name).is_file())
        items.append(Freeable("checkpoints of packs of finished sweeps", pack))
    return [each for each in items if each.paths]


def _is_leftover(file: Path) -> bool:
    """Return whether ``file`` was being written by a process that is gone."""
    named = _PARTIAL.fullmatch(file.name)
    return named is not None and not psutil.pid_exists(int(named[1]))


def _sweep_is_finished(folder: Path) -> bool:
    sweep = next((path for path in folder.parents if (path / IDENTITY).is_file()), None)
    return sweep is not None and last_status(sweep) == "FINISHED"


def _parts(folder: Path) -> Iterator[Path]:
    """Yield what is in the folder of a run, less the folders that hold other runs.

    Its identity comes last.
    """
    with os.scandir(folder) as entries:
        parts = [Path(entry.path) for entry in entries]
    for path in sorted(parts, key=lambda path: path.name == IDENTITY):
        if not _is_folder(path) or not any(file.name == IDENTITY for file in _files(path)):
            yield path


def _artifacts(home: Path | None) -> Iterator[Path]:
    if home and home.is_dir():
        yield home


def _files(folder: Path, without_runs: bool = False) -> Iterator[Path]:
    stack = [folder]
    while stack:
        directory = stack.pop()
        with os.scandir(directory) as entries:
            children = list(entries)
        if without_runs and directory != folder and any(entry.name == IDENTITY for entry in children):
            continue
        for entry in children:
            if entry.is_dir(follow_symlinks=False):
                stack.append(Path(entry.path))
            else:
                yield Path(entry.path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()

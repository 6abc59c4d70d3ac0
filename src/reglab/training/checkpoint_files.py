"""Atomic checkpoint files with a SHA-256 checksum; the previous one is kept.

A checkpoint is torch's own zip file, so ``torch.load`` reads it anywhere. The SHA-256 of everything
before it stands in the zip's comment.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from reglab.core import atomic_write
from reglab.core.errors import UserError
from reglab.training import checkpoint_constants
from reglab.training.compact_storage import compact

_log = logging.getLogger(__name__)
_END = b"PK\x05\x06"  # the zip's last record: 22 bytes, the last two of which say how long a comment follows
_RECORD = 22
_MARK = b"reglab sha256 "
_COMMENT = len(_MARK) + 64
_CHUNK = 1 << 20


class Damaged(UserError):  # noqa: N818 - what it says is what the file is
    """A checkpoint file whose checksum does not match."""


def previous(path: Path) -> Path:
    """Return the path of the previous checkpoint of ``path``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint durably; the one that was at ``path`` becomes ``previous(path)``.

    Of tensors that are views of a larger storage only what they show is written (``compact``);
    ``Unchanged`` ones go to a file of their own, once.

    Args:
        content: Plain data and tensors.
        path: Of the file.

    Raises:
        OSError: Where the disk does not take it; the earlier ones are then as they were.
    """
    _write(checkpoint_constants.put(dict(content), path.parent, _write_beside), path)


def link(path: Path, name: Path) -> None:
    """Hard-link the checkpoint at ``path`` as ``name``; a copy where links are not supported.

    Args:
        path: An existing checkpoint.
        name: The second path.
    """
    if name.exists():
        _keep(name, previous(name))
    _share(path, name)


_unchanged: dict[str, Path] = {}  # where this process last wrote or read each file of unchanged tensors, by name


def _write_beside(content: Mapping[str, Any], path: Path) -> None:
    """Write ``content`` unless it exists; runs with equal tensors, as of one seed, share
    the file.
    """
    path, known = path.absolute(), _unchanged.get(path.name)
    if path.is_file() and (known == path or _is_whole(path)):  # read once, not for every checkpoint
        _unchanged[path.name] = path
        return
    path.unlink(missing_ok=True)
    if known and _is_whole(known):
        path.parent.mkdir(parents=True, exist_ok=True)
        _share(known, path)
    else:
        _write(content, path)
    _unchanged[path.name] = path


def _is_whole(path: Path) -> bool:
    try:
        _verify(path)
    except UserError:
        return False
    return True


def _share(path: Path, name: Path) -> None:
    """Link or copy the file at ``path`` as ``name``, durably."""
    spare = atomic_write.partial(name)
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        atomic_write.write(name, path.read_bytes())
        return
    spare.replace(name)
    spare.unlink(missing_ok=True)
    atomic_write.sync_folder(name.parent)


def _write(content: Mapping[str, Any], path: Path) -> None:
    content = compact(content)
    with atomic_write.writing(path) as file:
        sealed = _Sealed(file)
        try:
            torch.save(content, cast(BinaryIO, sealed))
        except RuntimeError as error:  # torch hides the file's own error
            if sealed.refused is None:
                raise
            raise sealed.refused from error
        sealed.seal()
        file.flush()
        os.fsync(file.fileno())  # a full disk fails here, while the earlier files are still there
        if path.exists():
            _keep(path, previous(path))


def _keep(path: Path, before: Path) -> None:
    """Link the file at ``path`` as ``before``: it also stays at ``path`` until it is replaced."""
    spare = atomic_write.partial(before)
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:  # a file system without links: dying here leaves it under its other name alone
        path.replace(before)
        return
    spare.replace(before)
    spare.unlink(missing_ok=True)  # replacing a file by a link to itself does nothing, and leaves the second name


class Checkpoint:
    """A checkpoint that was verified and loaded, so that who resumes from it reads no file again.

    Args:
        path: Of its file.
        content: What it holds, on the CPU.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def take(self) -> dict[str, Any]:
        """Return the content and forget it: it must not fill the memory while training."""
        content, self.content = self.content, {}
        return content


def load(path: Path) -> Checkpoint:
    """Verify and load a checkpoint. Raises as ``read``."""
    return Checkpoint(path, read(path))


def read(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU: its file is hashed once, and loaded once.

    Raises:
        Damaged: If it, or a file of unchanged tensors that it refers to, is not whole.
        UserError: If it is not there.
    """
    _verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Damaged(f"{path} cannot be read as a checkpoint of reglab ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise Damaged(f"{path} is not a checkpoint of reglab: it holds a {type(content).__name__}")
    checkpoint: dict[str, Any] = checkpoint_constants.take(content, path.parent, _read_beside)
    return checkpoint


def _read_beside(path: Path) -> dict[str, Any]:
    content = read(path)
    _unchanged[path.name] = path.absolute()
    return content


def _verify(path: Path) -> None:
    """Compare a file with its checksum. Raises as ``read``."""
    if path.exists() and not path.is_file():
        raise Damaged(f"{path} is not a plain file, and a checkpoint is")  # opening a pipe would wait for ever
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            digest = hashlib.sha256()
            left = max(0, size - _COMMENT)
            while left and (piece := file.read(min(_CHUNK, left))):
                digest.update(piece)
                left -= len(piece)
            comment = file.read()
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    if comment != _MARK + digest.hexdigest().encode():
        what = "is damaged: its content does not match its checksum" if _MARK in comment else "has no checksum"
        raise Damaged(
            f"the checkpoint {path} {what}, so it was cut, changed, or not written by reglab: give another one of the "
            "run, or train it again"
        )


def load_if_whole(path: Path) -> Checkpoint | None:
    """Return the checkpoint at ``path``; None where there is none, or a damaged one (a warning)."""
    try:
        return load(path)
    except Damaged as error:
        _log.warning("%s. The previous checkpoint is used; if there is none, training starts over.", error)
    except UserError:
        pass
    return None


def whole(path: Path) -> Iterator[Checkpoint]:
    """Yield ``path`` and its previous checkpoint as far as they are whole, each loaded when asked
    for.

    A damaged one at ``path`` is removed by rank 0 where the previous one is whole, which the next
    checkpoint would otherwise replace by it.
    """
    if newest := load_if_whole(path):
        yield newest
    if earlier := load_if_whole(previous(path)):
        if newest is None and not getattr(rank_zero_only, "rank", 0):
            path.unlink(missing_ok=True)
        yield earlier


class _Sealed:
    """File object for ``torch.save`` that computes the checksum, and holds the zip's last record
    back.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sum, self._held = file, hashlib.sha256(), b""
        self.refused: OSError | None = None

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        if view.nbytes < _RECORD:
            view = memoryview(self._held + bytes(view))
        elif self._held:
            self._put(memoryview(self._held))
        self._put(view[:-_RECORD])
        self._held = bytes(view[-_RECORD:])
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing to do: the last record is written by ``seal``."""

    def seal(self) -> None:
        """Write the zip's last record with its comment."""
        if not (self._held.startswith(_END) and self._held.endswith(b"\0\0")):
            raise RuntimeError("torch.save did not end with a zip's last record: this version of torch is not known")
        self._put(memoryview(self._held[:-2] + _COMMENT.to_bytes(2, "little")))
        self._file.write(_MARK + self._sum.hexdigest().encode())

    def _put(self, data: memoryview) -> None:
        self._sum.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.refused = error
            raise

"""``examples.npz``: per-example losses and scores of a run, for paired comparisons. No torch."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from reglab.core import atomic_write
from reglab.core.errors import UserError

FILE = "examples.npz"
OUTPUTS = 2**20  # the most numbers of outputs that are kept

Array = NDArray[Any]
# What reading raises where a file is missing, truncated, not a zip file, or has other contents.
_WRONG = (OSError, ValueError, TypeError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Examples:
    """Per-example results of a run's final weights, on its validation part and on its probe.

    Attributes:
        val_index, probe_index: int64 [rows], the example's index in the whole data set, whatever
            the split; a bootstrap replica's probe may contain one twice. Where the loss compares
            rows, all are of groups of rows, known by the rows in them.
        val_loss, probe_loss: float32 [rows], float64 where the run was trained in double; their
            means are the run's ``val/loss`` and ``train/loss``.
        val_score, probe_score: [rows], terms whose mean is the task's score
            (``measures.contributions``).
        val_monitor: Like ``val_score``, of ``measure.monitor``; None where that is the loss or the
            task's score.
        val_weight, probe_weight: float32 [rows], example weights; None where all are 1.
        val_outputs: float32 [rows, ...], the model's outputs, with ``val_targets`` [rows, ...];
            None where that takes more than ``OUTPUTS`` numbers.
        val_expected: float64 [rows], the targets without noise, where a generator knows them.
        val_constant_loss, val_constant_score, val_constant_monitor: The same of the constant
            predictor.
        train_rows: int64 0-dim, the number of rows of the training part, of which the probe is a
            part.
    """

    val_index: Array
    val_loss: Array
    val_score: Array
    probe_index: Array
    probe_loss: Array
    probe_score: Array
    val_weight: Array | None = None
    probe_weight: Array | None = None
    val_outputs: Array | None = None
    val_targets: Array | None = None
    val_expected: Array | None = None
    val_constant_loss: Array | None = None
    val_constant_score: Array | None = None
    val_monitor: Array | None = None
    val_constant_monitor: Array | None = None
    train_rows: Array | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where shapes or dtypes do not match."""
        for side in ("val", "probe"):
            rows = getattr(self, f"{side}_index").shape[:1]
            self._check(f"{side}_index", rows, "i")
            self._check(f"{side}_loss", rows, "f")
            self._check(f"{side}_weight", rows, "f")
            self._check(f"{side}_score", rows, "f")
        for name in ("val_expected", "val_monitor", "val_constant_loss", "val_constant_score", "val_constant_monitor"):
            self._check(name, self.val_index.shape, "f")
        if self.train_rows is not None and (self.train_rows.shape != () or self.train_rows.dtype.kind != "i"):
            raise ValueError(f"train_rows is {self.train_rows.dtype} {list(self.train_rows.shape)}")
        self._check("val_outputs", self.val_index.shape, "f", more=True)
        self._check("val_targets", self.val_index.shape, "fi", more=True)

    def _check(self, name: str, rows: tuple[int, ...], kinds: str, more: bool = False) -> None:
        """Check an array that is not None; ``more``: whether more axes than rows are allowed."""
        array = getattr(self, name)
        if array is None:
            return
        shape = array.shape[:1] if more else array.shape
        if array.dtype.kind not in kinds or shape != rows or len(rows) != 1:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")

    def write(self, path: Path) -> None:
        """Write the file atomically, without pickles. Equal arrays give equal bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with atomic_write.writing(path) as file:
            np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})


def read(path: Path, without: Sequence[str] = ()) -> Examples:
    """Return the contents of the file at ``path``.

    Args:
        path: Of the file.
        without: Arrays that are not wanted.

    Raises:
        UserError: It is another kind of file, damaged, or contains pickles.
    """
    wanted = {field.name for field in fields(Examples)} - set(without)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).stem: name for name in archive.namelist() if name.endswith(".npy")}
            arrays = {stem: _array(archive, name) for stem, name in names.items() if stem in wanted}
        return Examples(**cast(Mapping[str, Any], arrays))
    except _WRONG as error:
        raise UserError(
            f"{path} is not a readable file of per-example losses ({error}); train the run again to write it"
        ) from error


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array

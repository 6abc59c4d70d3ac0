"""Rows to predict, read from where they lie in pieces: a table, an array, a folder of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reglab.core.errors import UserError, nearest
from reglab.data.array_reader import FileReader
from reglab.data.image_folder import SUFFIXES, ImageReader
from reglab.data.new_files import tables
from reglab.data.preprocessing import Preprocessing
from reglab.data.reader import Reader
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable

Rows = RawTable | NDArray[Any]


def pieces(path: Path, preprocessing: Preprocessing, reading: Reading) -> Iterator[tuple[Rows, dict[str, Any]]]:
    """Yield raw rows in order, and what names them, by column: of an image its file.

    Args:
        path: A table, a ``.npy`` file, or a folder of images.
        preprocessing: Of training.
        reading: Options by which a table is read.

    Raises:
        UserError: For what cannot be read, or is none of what the model takes.
    """
    if preprocessing.reads == "images":
        files = image_files(path)
        _, size, _ = preprocessing.shape
        reader = ImageReader([path / name for name in files], size, preprocessing.shape[0])
        for block in _blocks(reader):
            yield reader.read(block), {"file": [files[row] for row in block]}
    elif preprocessing.reads == "array" or path.suffix.lower() == ".npy":
        array = FileReader(path, "path")
        for block in _blocks(array):
            yield array.read(block), {}
    else:
        for table in tables(path, reading):
            yield table, {}


def image_files(folder: Path) -> list[str]:
    """Return the images in a folder and those below it, in the order of their names.

    Raises:
        UserError: Where there is none.
    """
    if not folder.is_dir():
        beside = [other.name for other in folder.parent.iterdir() if other.is_dir()] if folder.parent.is_dir() else []
        raise UserError(f"data.path={folder} is no folder of images; {nearest(folder.name, beside)}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = [path.relative_to(folder).as_posix() for path in found if not path.name.startswith(".")]
    if not names:
        raise UserError(f"data.path={folder} holds no image ({' or '.join(SUFFIXES)}): give another folder")
    return names


def _blocks(reader: Reader) -> Iterator[NDArray[np.int64]]:
    size = reader.block_rows
    return (np.arange(first, min(first + size, len(reader))) for first in range(0, len(reader), size))

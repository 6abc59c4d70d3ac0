"""Rows to predict, read from where they lie in pieces: a table, arrays, a folder of images, series."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reglab.core.errors import UserError, nearest
from reglab.data.array_reader import FileReader, mapped
from reglab.data.image_folder import SUFFIXES, ImageReader
from reglab.data.new_files import tables, whole_table
from reglab.data.new_windows import last_windows, new_series
from reglab.data.parquet_columns import ParquetColumns, parquet_files
from reglab.data.preprocessing import Preprocessing
from reglab.data.reader import Array, Reader
from reglab.data.several import JoinedReader
from reglab.data.source import Integers
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.inference.predictor import Predictor

Rows = RawTable | NDArray[Any]


class Piece(NamedTuple):
    """Some rows of a file.

    Args:
        rows: Raw.
        named: What names them, by column: of an image its file.
        first: The number of the first of them in the file.
    """

    rows: Rows
    named: Mapping[str, Any]
    first: int


def pieces(path: Path, predictor: Predictor, whole: bool = False) -> Iterator[Piece]:
    """Yield raw rows in order; of series the last window of each.

    Args:
        path: A table, a ``.npy`` file (of several inputs as many, with commas between), or a folder
            of images.
        predictor: Which takes them.
        whole: Read a table at once.

    Raises:
        UserError: For what cannot be read, or is none of what the model takes.
    """
    read = predictor.preprocessing
    if read.windows:
        rows = series_rows(path, predictor)
        windows, named = last_windows(new_series(read, rows, predictor.reading), rows)
        yield Piece(windows, named, 0)
    elif are_images(path, read):
        files = image_files(path)
        images = image_reader(path, files, read)
        for rows_of in _blocks(images):
            yield Piece(images.read(rows_of), {"file": [files[row] for row in rows_of]}, int(rows_of[0]))
    elif read.reads == "array" and read.columns and _is_parquet(path):
        yield from _of_parquet(path, read)
    elif read.reads != "table" or path.suffix.lower() == ".npy":
        reader = array_reader(path, read)
        for rows_of in _blocks(reader):
            yield Piece(reader.read(rows_of), {}, int(rows_of[0]))
    else:
        first = 0
        for table in _tables(path, predictor.reading, whole or predictor.whole):
            yield Piece(table, {}, first)
            first += table.rows


def are_images(path: Path, read: Preprocessing) -> bool:
    """Return whether a path is read as a folder of images; arrays of pixels are taken, too."""
    return read.reads == "images" and path.suffix.lower() != ".npy"


def series_rows(path: Path, predictor: Predictor) -> Rows:
    """Return the rows of a file of series."""
    if path.suffix.lower() == ".npy":
        return _values(path)
    return whole_table(path, predictor.reading)


def image_reader(path: Path, files: list[str], read: Preprocessing) -> ImageReader:
    """Return what decodes images of a folder as in training."""
    channels, size, _ = read.shape
    return ImageReader([path / name for name in files], size, channels)


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


def array_reader(path: Path, read: Preprocessing) -> Reader:
    """Return the reader of a ``.npy`` file, or of one for each of several inputs."""
    if not read.inputs:
        return FileReader(path, "path")
    names = [name.strip() for name in str(path).removeprefix("[").removesuffix("]").split(",")]
    wanted = [each.name for each in read.inputs]
    if len(names) != len(wanted):
        raise UserError(
            f"data.path={path}: the model takes {len(wanted)} inputs, {', '.join(wanted)}; give their files in this "
            f"order, data.path={','.join(f'{name}.npy' for name in wanted)}"
        )
    reader = JoinedReader([FileReader(Path(name).expanduser(), "path") for name in names], wanted)
    for given, trained in zip(reader.inputs, read.inputs, strict=True):
        if given.shape != trained.shape:
            raise UserError(
                f"data.path: the rows of {given.name} are {list(given.shape)}, and {list(trained.shape)} in training"
            )
    return reader


def _tables(path: Path, reading: Reading, whole: bool) -> Iterator[RawTable]:
    several = parquet_files(str(path)) if path.is_dir() or "*" in path.name else [path]
    if whole and len(several) > 1:
        raise UserError(
            f"data.path={path} is {len(several)} files, and the rows of a query must be in one: give a single file"
        )
    for each in several:
        if whole:
            yield whole_table(each, reading)
        else:
            yield from tables(each, reading)


def _is_parquet(path: Path) -> bool:
    return path.is_dir() or "*" in path.name or path.suffix.lower() in (".parquet", ".pq")


def _of_parquet(path: Path, read: Preprocessing) -> Iterator[Piece]:
    """Yield blocks of columns that hold lists."""
    columns, first = ParquetColumns(parquet_files(str(path))), 0
    names = columns.chosen([column.name for column in read.columns], "path")
    for block in columns.blocks(names, read.tokens):
        yield Piece(block, {}, first)
        first += len(block)


def _values(path: Path) -> Array:
    return np.array(mapped(path, "path"))


def _blocks(reader: Reader) -> Iterator[Integers]:
    size = reader.block_rows
    return (np.arange(first, min(first + size, len(reader))) for first in range(0, len(reader), size))

"""Shards as webdataset writes them: tar files of samples, read by their number."""

from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.array_files import input_names
from reglab.data.array_reader import ArrayReader
from reglab.data.checks import flag, whole
from reglab.data.image_folder import check_channels
from reglab.data.read_ahead import ReadAhead
from reglab.data.reader import Array
from reglab.data.sample_reader import SampleReader
from reglab.data.source import Source
from reglab.data.stream_choice import is_streamed
from reglab.data.table_target import TaskOrTasks, targets_of
from reglab.data.tar_index import shard_files

_COPIES = 3  # of the raw rows, while inputs are made of them
_BLOCK = 64  # samples that a worker reads at a time


def shards(
    *,
    path: str | None = None,
    inputs: str | None = None,
    targets: str | None = "cls",
    task: TaskOrTasks = "auto",
    size: int = 64,
    channels: int = 3,
    tokens: bool = False,
    stream: bool | str = "auto",
    workers: int = 2,
) -> Source:
    """Return the samples of tar files: ``000001.jpg`` and ``000001.cls``, ``000002.jpg``, ...

    Args:
        path: A file, a folder of files, or a pattern.
        inputs: The ending of the inputs; None: that of an image, or ``npy``.
        targets: The ending of the targets; ``json.label`` is the key ``label`` in ``json``.
        task: ``auto``, or a name of ``reglab.tasks``.
        size: Side of images in pixels, which are cut to a square around the center and scaled.
        channels: Of images, 3 or 1.
        tokens: Inputs in ``npy`` are token ids, >= 0.
        stream: Read the inputs anew in each epoch, rather than once into memory; ``auto``: where
            they do not fit into the free memory.
        workers: Processes that read streamed inputs.

    Raises:
        UserError: For files and samples that cannot be used.
    """
    if path is None or targets is None:
        raise UserError("data=shards needs tar files: data.path=shards data.targets=cls")
    whole("workers", workers, 0)
    whole("size", size, 1)
    check_channels(channels)
    reader = SampleReader(shard_files(str(path)), inputs, str(targets), size, channels)
    if flag("tokens", tokens) and reader.dtype.kind not in "iu":
        raise UserError(f"data.tokens=true, but the inputs are {reader.dtype}: token ids are whole numbers")
    needed = _COPIES * len(reader) * reader.row_bytes
    shape = " x ".join(map(str, reader.shape))
    what = f"{len(reader)} samples of {shape}"
    streamed = is_streamed(stream, needed, what, lambda _: "smaller images, or fewer files")
    found = targets_of(reader.targets(), task)
    several = len(reader.shape) > 1
    return Source(
        task=found.task,
        numeric=np.empty((0, 0)),
        numeric_names=input_names(reader),
        targets=found.targets,
        target_names=found.target_names,
        class_names=found.class_names,
        images=reader.images,
        shape=reader.shape if several or tokens else None,
        homogeneous=several,
        tokens=tokens,
        standardize_target=True,
        name=Path(str(path)).stem,
        reader=reader if streamed else ArrayReader(_all(reader, workers)),
        stream=streamed,
        workers=workers if streamed else 0,
    )


def _all(reader: SampleReader, workers: int) -> Array:
    """Return all inputs, read by worker processes."""
    inputs, numbers = np.empty((len(reader), *reader.shape), dtype=reader.dtype), np.arange(len(reader))
    blocks = [numbers[first : first + _BLOCK] for first in range(0, len(numbers), _BLOCK)]
    for rows, read in zip(blocks, ReadAhead(reader, workers).read(blocks), strict=True):
        inputs[rows] = read
    return inputs

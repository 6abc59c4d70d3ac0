"""Reader of the samples of tar files, by an index of where their files stand."""

import io
import json
import warnings
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from reglab.core.errors import UserError, nearest
from reglab.data.image_folder import pixels_of
from reglab.data.read_before import identity_of
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers
from reglab.data.tar_index import Member, Sample, samples

_IMAGES = ("jpg", "jpeg", "png")
_INPUTS = (*_IMAGES, "npy")
_WHOLE = ("cls", "id", "index", "inx")


class SampleReader(Reader):
    """Inputs and targets of samples, found by an index of the archives that is made once.

    Args:
        files: The archives.
        inputs: The ending of the inputs; None: the first sample tells.
        targets: The ending of the targets, or that and a key.
        size, channels: Of images.

    Raises:
        UserError: For a sample without one of both.
    """

    def __init__(self, files: Sequence[Path], inputs: str | None, targets: str, size: int, channels: int) -> None:
        self.files, self.size, self.channels = list(files), size, channels
        self.keys, self._target, self._key, self._images = list[str](), "", "", False
        found = [self._members(sample, inputs, targets) for sample in samples(self.files)]
        if not found:
            raise UserError(f"{files[0]} has no samples: its files are called 000001.jpg, 000001.cls and so on")
        self._inputs, self._targets = map(np.array, zip(*found, strict=True))
        first = self._input(0)
        self.shape, self.dtype = first.shape, first.dtype

    def _members(self, sample: Sample, inputs: str | None, targets: str) -> tuple[Member, Member]:
        """Return where inputs and target of a sample stand; the first one says what they are."""
        if not self.keys:
            self._target, self._key = _target_ending(sample, targets)
        ending = _input_ending(sample, inputs, self._target)
        what = f"the sample {sample.key} of {self.files[next(iter(sample.members.values())).shard]}"
        for name in (ending, self._target):
            if name not in sample.members:
                has = ", ".join(f".{each}" for each in sample.members)
                raise UserError(f"{what} has no file .{name}, but {has}: choose by data.inputs and data.targets")
        images = ending.rpartition(".")[2] in _IMAGES
        if self.keys and images != self._images:
            raise UserError(f"the inputs of {what} are .{ending}, and those of others are not: choose by data.inputs")
        self._images = images
        self.keys.append(sample.key)
        return sample.members[ending], sample.members[self._target]

    @property
    def images(self) -> bool:
        """Whether the inputs are image files."""
        return self._images

    def __len__(self) -> int:
        return len(self.keys)

    def identity(self) -> str:
        return f"{identity_of(self.files)} {self._inputs[:, 1].sum()} {self.shape} {self.dtype}"

    def read(self, rows: Integers) -> Array:
        read = np.empty((len(rows), *self.shape), dtype=self.dtype)
        for number, row in enumerate(rows):
            values = self._input(int(row))
            if values.shape != self.shape or values.dtype != self.dtype:
                raise UserError(
                    f"the inputs of {self._name(int(row))} are {values.dtype} {list(values.shape)}, and those of the "
                    f"first sample {self.dtype} {list(self.shape)}: pad or crop them to one shape"
                )
            read[number] = values
        return read

    def targets(self) -> Array:
        """Return the targets of all samples, ``[rows]`` or ``[rows, ...]``."""
        read = [self._value(row) for row in range(len(self))]
        try:
            return np.array(read)
        except ValueError as error:
            raise UserError(
                f"the targets .{self._target} have different shapes ({error}): give all one shape"
            ) from error

    def _input(self, row: int) -> Array:
        content, name = self._content(self._inputs[row]), self._name(row)
        if self._images:
            return pixels_of(io.BytesIO(content), name, self.size, self.channels)
        values = _loaded(content, name)
        if values.dtype.kind not in "fiub" or values.ndim == 0:
            raise UserError(f"the inputs of {name} are {values.dtype} {list(values.shape)}: they must be numbers")
        return values

    def _value(self, row: int) -> Any:
        content, name, ending = self._content(self._targets[row]), self._name(row), self._target.rpartition(".")[2]
        if ending == "npy":
            return _loaded(content, name)
        if ending in _IMAGES:
            return self._classes(content, name)
        try:
            text = content.decode().strip()
            if ending == "json":
                value = json.loads(text)
                return value[self._key] if self._key else value
            return int(text) if ending in _WHOLE else text
        except KeyError as error:
            raise UserError(f"{name}.{ending} has no key {self._key!r}: {nearest(self._key, value)}") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"the target .{self._target} of {name} cannot be read ({error})") from error

    def _classes(self, content: bytes, name: str) -> Array:
        """Return an image of class numbers, ``[height, width]``, cut and scaled as the inputs are."""
        from PIL import Image, ImageOps

        bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # small files that fill the memory
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content)) as image:
                    size = (self.size, self.size) if self._images else image.size
                    return np.asarray(ImageOps.fit(image, size, Image.Resampling.NEAREST))
        except (OSError, ValueError, SyntaxError, *bombs) as error:
            raise UserError(f"the target .{self._target} of {name} cannot be read ({error})") from error

    def _content(self, member: Integers) -> bytes:
        shard, offset, size = map(int, member)
        try:
            with FileIO(self.files[shard]) as file:  # each time: forked processes would share its position
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise UserError(f"{self.files[shard]} cannot be read any more ({error.strerror})") from error
        if len(content) < size:
            raise UserError(f"{self.files[shard]} has become shorter while it was read: write it anew")
        return content

    def _name(self, row: int) -> str:
        return f"the sample {self.keys[row]} of {self.files[int(self._inputs[row][0])]}"


def _target_ending(sample: Sample, targets: str) -> tuple[str, str]:
    """Return the ending of the targets, and the key in it."""
    ending, _, key = targets.partition(".")
    if targets.lower() in sample.members or ending.lower() != "json":
        return targets.lower(), ""
    return ending.lower(), key


def _input_ending(sample: Sample, inputs: str | None, target: str) -> str:
    if inputs is not None:
        return str(inputs).lower()
    found = [name for name in sample.members if name in _INPUTS and name != target]
    if len(found) != 1:
        raise UserError(
            f"the sample {sample.key} has {' and '.join(found) or 'no image and no npy'}: say which the inputs are, as "
            f"in data.inputs={next(iter(found or sample.members))}"
        )
    return found[0]


def _loaded(content: bytes, name: str) -> Array:
    try:
        values: Array = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the array of {name} cannot be read ({error})") from error
    return values

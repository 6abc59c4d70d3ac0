"""A user's own images: a folder with one subfolder for each class."""

import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError, nearest
from reglab.core.override import typed
from reglab.data.checks import whole
from reglab.data.read_before import identity_of
from reglab.data.reader import Array, Reader
from reglab.data.source import Bytes, Integers, Source
from reglab.data.stream_choice import is_streamed

SUFFIXES = (".png", ".jpg", ".jpeg")
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test"})
# What a pixel takes at most while the parts are made: as a byte, as a float32, and that once more
# in its part.
_BYTES = 1 + 4 + 4


def image_folder(
    *, path: str | None = None, size: int = 64, channels: int = 3, stream: bool | str = "auto", workers: int = 2
) -> Source:
    """Return the images in ``path``, whose subfolders are the classes.

    ``path/cat/1.jpg``, ``path/dog/old/2.png``.

    Args:
        size: Side in pixels; an image is cut to a square around its center, then scaled (bilinear).
        channels: 3 for colour, 1 for gray.
        stream: Read the images anew in each epoch, rather than once into memory; ``auto``: where
            they do not fit into the free memory.
        workers: Processes that decode streamed images.

    Raises:
        UserError: For a folder that is missing or holds no classes, an image that cannot be read,
            and images that do not fit into the free memory although they are not to be streamed.
    """
    whole("size", size, 1)
    check_channels(channels)
    folder = _folder(path)
    classes = _classes(folder)
    files = [(number, file) for number, images in enumerate(classes.values()) for file in images]
    reader = ImageReader([file for _, file in files], size, channels)
    needed = len(files) * channels * size * size * _BYTES
    streamed = is_streamed(stream, needed, f"{len(files)} images of {channels} x {size} x {size}", _smaller(size))
    whole("workers", workers, 0)
    everything = np.arange(0 if streamed else len(files))
    return Source(
        task="binary" if len(classes) == 2 else "classification",
        numeric=reader.read(everything).reshape(len(everything), channels * size * size),
        numeric_names=tuple(f"{c}_{y}_{x}" for c in range(channels) for y in range(size) for x in range(size)),
        targets=np.array([number for number, _ in files], dtype=np.int64),
        target_names=tuple(classes),
        shape=(channels, size, size),
        homogeneous=True,
        name=folder.resolve().name,
        reader=reader if streamed else None,
        stream=streamed,
        workers=workers,
        images=True,
    )


class ImageReader(Reader):
    """Decodes image files.

    Args:
        files: In the order of their rows.
        size: Side in pixels.
        channels: 3 or 1.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], size: int, channels: int) -> None:
        self.files, self.size, self.channels = files, size, channels
        self.shape = (channels, size, size)

    def __len__(self) -> int:
        return len(self.files)

    def identity(self) -> str:
        return f"{identity_of(self.files)} {self.shape}"

    def read(self, rows: Integers) -> Array:
        pixels = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for number, row in enumerate(rows):
            pixels[number] = pixels_of(self.files[row], str(self.files[row]), self.size, self.channels)
        return pixels


def check_channels(channels: int) -> None:
    """Raise UserError unless an image of so many channels is made."""
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels} must be 3 (colour) or 1 (gray)")


def _folder(path: str | None) -> Path:
    if path is None:
        raise UserError("data.path is not set: give a folder with one subfolder for each class, as in data.path=photos")
    folder = Path(str(path)).expanduser()
    if not folder.is_dir():
        beside = [other.name for other in folder.parent.iterdir() if other.is_dir()] if folder.parent.is_dir() else []
        raise UserError(f"data.path={path} is no folder; {nearest(folder.name, beside)}")
    return folder


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class, both in the order of their names."""
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    suffixes = " or ".join(SUFFIXES)
    if not names:
        raise UserError(f"data.path={folder} has no subfolders: put the images ({suffixes}) of each class into one")
    if parts := [name for name in names if name.lower() in PARTS]:
        raise UserError(
            f"data.path={folder} holds parts, not classes ({', '.join(parts)}): name one of them, "
            f"{typed('data.path', str(folder / parts[0]))}; it is split by data.val_size and data.test_size"
        )
    images_by_class = {name: _images(folder / name) for name in names}
    for name, images in images_by_class.items():
        if not images:
            raise UserError(f"the class {folder / name} holds no image ({suffixes}): remove that folder or fill it")
    return images_by_class


def _images(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in inside if not path.name.startswith("."))


def _smaller(size: int) -> Callable[[float], str]:
    return lambda share: f"smaller images (data.size={max(int(size * share**0.5), 1)} would just fit)"


def pixels_of(file: Path | BytesIO, name: str, size: int, channels: int) -> Bytes:
    """Return an image as [channels, size, size] bytes.

    Args:
        file: PNG, JPEG or another that Pillow reads.
        name: For messages.
        size: Side in pixels: cut to a square around the center, then scaled.
        channels: 3 for colour, 1 for gray.

    Raises:
        UserError: For what is no image of 8 bits.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Small files that fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.mode[0] in "IF":
                    raise ValueError(f"it has more than 8 bits a channel (mode {image.mode})")
                upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
        fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} cannot be read ({error}): convert it to an 8-bit PNG or JPEG, or remove it") from error
    return np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1)

"""Where the files of tar archives stand: samples of shards as webdataset writes them."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError


class Member(NamedTuple):
    """A file inside an archive: bytes ``offset`` to ``offset + size`` of archive ``shard``."""

    shard: int
    offset: int
    size: int


class Sample(NamedTuple):
    """The files of one sample, which differ in their endings.

    Args:
        key: Path without the ending: up to the first dot of the file's name.
        members: By ending, such as ``jpg``, ``cls`` or ``seg.png``, in the archive's order.
    """

    key: str
    members: dict[str, Member]


def shard_files(path: str) -> list[Path]:
    """Return the archives that a path names: one, those in a folder, or those that match a pattern.

    Args:
        path: As the user gave it.

    Raises:
        UserError: If there are none, or they are compressed.
    """
    given = Path(path).expanduser()
    if given.is_file():
        found = [given]
    elif given.is_dir():
        found = [each for each in given.rglob("*") if each.suffix == ".tar" or each.suffixes[-2:-1] == [".tar"]]
    else:
        found = [each for each in given.parent.glob(given.name) if each.is_file()] if given.parent.is_dir() else []
    if not found:
        raise UserError(
            f"data.path={path} has no tar files: give a file, a folder of them, or a pattern, such as 'train-*.tar'"
        )
    if packed := [each for each in found if each.suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst")]:
        raise UserError(
            f"{sorted(packed)[0]} is compressed, and its samples cannot be read by number: unpack it to a .tar file"
        )
    return sorted(found)


def samples(files: Sequence[Path]) -> Iterator[Sample]:
    """Yield the samples of archives, of which only the headers are read.

    Args:
        files: In the order of their samples.

    Raises:
        UserError: For a file that is no tar archive, and a sample with two files of one ending.
    """
    for shard, file in enumerate(files):
        sample = Sample("", {})
        try:
            with tarfile.open(file, "r:") as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                    folder, _, name = info.name.rpartition("/")
                    start, _, ending = name.partition(".")
                    if not info.isfile() or not start or not ending:
                        continue
                    key = f"{folder}/{start}" if folder else start
                    if key != sample.key:
                        if sample.members:
                            yield sample
                        sample = Sample(key, {})
                    ending = ending.lower()
                    if ending in sample.members:
                        raise UserError(f"{file} has two files {key}.{ending} in one sample: write it anew")
                    sample.members[ending] = Member(shard, info.offset_data, info.size)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"{file} is no tar archive ({describe_error(error)})") from error
        if sample.members:
            yield sample

"""``artifacts.left``: artifacts of a run that its store did not take, while it has rows and status."""

import json
from collections.abc import Mapping
from pathlib import Path

from reglab.core import atomic_write
from reglab.tracking.folder import LEFT

Artifact = tuple[str, str]  # file below the run's folder, folder below the run's artifacts


class ArtifactLeft(Exception):  # noqa: N818 - a state: it is tried again
    """The store did not take an artifact.

    Args:
        message: Why, in one sentence.
        others: Whether it may take others; False where nothing reaches it.
    """

    def __init__(self, message: str, others: bool = True) -> None:
        super().__init__(message)
        self.others = others


def read_left(folder: Path) -> dict[Artifact, str]:
    """Return why each artifact of the run in ``folder`` is not in its store; empty if all are.

    A file that cannot be read counts as none: the artifacts themselves stay in the folder.
    """
    try:
        content = json.loads((folder / LEFT).read_text(encoding="utf-8"))
        return {(str(name), str(target)): str(why) for name, target, why in content}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write_left(folder: Path, left: Mapping[Artifact, str]) -> None:
    """Keep what ``read_left`` returns; without anything left there is no file."""
    if left:
        atomic_write.write(folder / LEFT, json.dumps([[*artifact, why] for artifact, why in left.items()]) + "\n")
    else:
        (folder / LEFT).unlink(missing_ok=True)

"""``pack.json``, beside a pack's checkpoint: its jobs, for the launcher that resumes them.

No torch.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reglab.core import atomic_write
from reglab.core.errors import UserError
from reglab.tracking.folder import read_identity
from reglab.tracking.folder_gate import check_run_folder
from reglab.tracking.sender import is_cut

MANIFEST, CHECKPOINT = "pack.json", "pack.ckpt"
# The first goes first: without it the others are nothing.
_FILES = (MANIFEST, CHECKPOINT, "pack.previous.ckpt")


@dataclass(frozen=True)
class Manifest:
    """The jobs of a pack that is being trained, in its order; kept in the first job's folder.

    Args:
        jobs: Their numbers in the sweep ``parent``.
        folders: Of their runs, absolute.
        runs: The ids of these.
        fingerprints: Of what they compute, data included.
        steps: Done when the checkpoint was written.
    """

    parent: str
    jobs: tuple[int, ...]
    folders: tuple[str, ...]
    runs: tuple[str, ...]
    fingerprints: tuple[str, ...]
    steps: int = 0

    def write(self, steps: int) -> None:
        """Write it durably, after the checkpoint of so many steps."""
        home = self.folders[0]
        content = asdict(replace(self, steps=steps))
        # So that the sweep can move.
        content["folders"] = [os.path.relpath(folder, home) for folder in self.folders]
        atomic_write.write(Path(home, MANIFEST), json.dumps(content) + "\n")


def read(folder: Path) -> Manifest | None:
    """Return the manifest in ``folder``; None if there is none that holds.

    It is valid as long as each job's folder has the run that it names: a job that was restarted has
    another.
    """
    try:
        check_run_folder(folder)
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(
            parent=str(content["parent"]),
            jobs=tuple(map(int, content["jobs"])),
            folders=tuple(os.path.normpath(folder / each) for each in content["folders"]),
            runs=tuple(map(str, content["runs"])),
            fingerprints=tuple(map(str, content["fingerprints"])),
            steps=int(content["steps"]),
        )
    except (UserError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if any(is_cut(Path(each)) for each in manifest.folders):  # what it lost would be recorded a second time
        return None
    return manifest if run_ids(manifest.folders) == manifest.runs and len(manifest.jobs) == len(manifest.runs) else None


def run_ids(folders: Sequence[str | Path]) -> tuple[str, ...]:
    """Return the runs' own ids in these folders, empty where there is none."""
    return tuple(_run_id(Path(folder)) for folder in folders)


def remove(folder: Path) -> None:
    """Remove the manifest in ``folder`` with its checkpoints."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _run_id(folder: Path) -> str:
    """Return the id that the run was opened with.

    A server may give it another one while its pack is trained.
    """
    try:
        identity = read_identity(folder)
        return identity.local or identity.run_id
    except (UserError, OSError):
        return ""

"""The files that tracking keeps in a run's folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reglab.errors import UserError
from reglab.tracking.points import Thinning

JOURNAL = "journal.jsonl"
SENT = "journal.sent"
IDENTITY = "run.json"


@dataclass(frozen=True)
class Identity:
    """Which run a folder holds. uri: its store, None without MLflow. artifacts: its artifact URI in that store.

    stride, steps: which rows go to the store, see ``Thinning``; kept here so that they are the same in every process.
    A password never stands in ``uri``: to go on with such a run, give it as MLFLOW_TRACKING_PASSWORD.
    """

    run_id: str
    name: str
    uri: str | None
    artifacts: str | None
    stride: int = 1
    steps: int | None = None

    @property
    def thinning(self) -> Thinning:
        """The budget of points as a rule."""
        return Thinning(self.stride, self.steps)


def write_identity(folder: Path, identity: Identity) -> None:
    """Write ``run.json``, by which a folder is found again as a run."""
    (folder / IDENTITY).write_text(json.dumps(asdict(identity), indent=2) + "\n", encoding="utf-8")


def read_identity(folder: Path) -> Identity:
    """Return which run ``folder`` holds. Raises UserError where it holds none."""
    try:
        return Identity(**json.loads((folder / IDENTITY).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run: it has no {IDENTITY}. Give the folder of a run") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / IDENTITY} cannot be read ({error}): give another run's folder") from error


def set_aside(folder: Path) -> None:
    """Make room for a new run where ``folder`` held one before: its journal must not go on under the new run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / JOURNAL).exists():
        return
    number = next(n for n in range(1, 1_000_000) if not (folder / f"earlier-{n}").exists())
    earlier = folder / f"earlier-{number}"
    earlier.mkdir()
    for name in (JOURNAL, SENT, IDENTITY):
        if (folder / name).exists():
            (folder / name).rename(earlier / name)

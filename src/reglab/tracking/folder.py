"""Files in a run's folder: names, the run's identity, earlier runs."""

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from reglab.core import atomic_write
from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.curve_files import CURVE_FILES
from reglab.tracking.folder_gate import FILE_OF_A_RUN, check_run_folder
from reglab.tracking.thinning import Thinning

JOURNAL = "journal.jsonl"
SENT = "journal.sent"
IDENTITY = FILE_OF_A_RUN
START = "start.json"
CREATED = "created.json"  # what start.json was, once the store has the run: it can be made again
LEFT = "artifacts.left"
EARLIER = "earlier-"  # and a number: where a run is moved when another one takes its folder
_ID_CHARACTERS = 6  # the shortest prefix of an id that is accepted
FOLDER = "reglab.folder"  # tag with the path of the run's folder
_FILES = ("config.yaml", "params.json", "params_long.json", "tags_long.json", "metrics.parquet", "note.md", "attached",
          "checkpoints", "preprocessing.json")  # fmt: skip
RESULTS = ("checkpoints", "metrics.parquet", "attached")  # of a run that has trained


# Ids become parts of paths, of queries and of what is printed.
_ID, _LINE = re.compile(r"[\w. -]{1,64}", re.ASCII), re.compile(r".+")


@dataclass(frozen=True)
class Identity:
    """Identity of the run in a folder (``run.json``).

    A password is never in ``uri``: to resume such a run, give it as MLFLOW_TRACKING_PASSWORD.

    Args:
        run_id: The id in the store.
        name: The name in the store.
        uri: Its store, None without MLflow.
        artifacts: Its artifact URI in that store.
        stride, steps, minor: Which rows go to the store, see ``Thinning``; kept here so that they
            are the same in every process.
        offline: Only ``reglab sync`` sends it to its store.
        local: The id that it had before a server gave it ``run_id``.
        former: Ids that it had in stores that are gone; other runs may refer to it by them.
        place: The folder in which it was last begun or resumed.
        claims: See ``copies``.
        also: Names of the curve files that its folder gets, see ``curve_files``.
    """

    run_id: str
    name: str
    uri: str | None
    artifacts: str | None
    stride: int = 1
    steps: int | None = None
    offline: bool = False
    local: str | None = None
    minor: int = 1
    former: Sequence[str] = ()
    place: str | None = None
    claims: Sequence[str] = ()
    also: Sequence[str] = ()

    @property
    def thinning(self) -> Thinning:
        """The budget of points as a rule."""
        return Thinning(self.stride, self.steps, self.minor)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids that it has and had."""
        return (self.run_id, *([self.local] if self.local else []), *self.former)

    def with_thinning(self, rule: Thinning) -> "Identity":
        """Return the same run under another budget of points."""
        return replace(self, stride=rule.stride, steps=rule.last, minor=rule.minor)


def shell_path(folder: Path) -> str:
    """Return ``folder`` as a shell word, relative to the working folder where it is below it."""
    folder, here = folder.resolve(), Path.cwd()
    word = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    # Else it reads as an option, or in zsh as a program.
    return shlex.quote(f"./{word}" if word.startswith(("-", "=")) else word)


def write_identity(folder: Path, identity: Identity) -> None:
    """Write ``run.json``, by which a folder is found again as a run; durably."""
    atomic_write.write(folder / IDENTITY, json.dumps(asdict(identity), indent=2) + "\n")


def read_identity(folder: Path) -> Identity:
    """Return the identity of the run in ``folder``.

    Raises:
        UserError: Where it holds none, or one that leads out of it.
    """
    check_run_folder(folder)
    try:
        content = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
        return _checked(Identity(**content))
    except (FileNotFoundError, NotADirectoryError):
        raise no_run_error(folder) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder / IDENTITY} cannot be read ({error}): restore it, or give another run's folder"
        ) from error


def _checked(identity: Identity) -> Identity:
    """Return an identity whose values have their types, as another program may not have left them.

    Raises:
        ValueError: Naming the first that has not.
    """
    numbers: tuple[str, ...] = ("stride", "steps", "minor")
    for name, value in asdict(identity).items():
        optional = value is None and name in ("uri", "artifacts", "local", "steps", "place")
        kind = int if name in numbers else bool if name == "offline" else str
        if name in ("former", "claims", "also"):
            if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
                raise ValueError(f"{name} is {value!r}")
        elif not optional and (type(value) is not kind or (name in ("run_id", "stride", "minor") and not value)):
            raise ValueError(f"{name} is {value!r}")
    if any("\0" in str(value) for value in asdict(identity).values()):  # of which no system makes a path
        raise ValueError("it holds a null character")
    for uri in (identity.uri, identity.artifacts):
        _ = urlsplit(uri or "").port  # raises ValueError for what is no address
    ids = (identity.run_id, identity.local or "none", *identity.former)
    for text, wanted in (*((each, _ID) for each in ids), (identity.uri or "none", _LINE)):
        if not wanted.fullmatch(text) or inline(text) != text:
            raise ValueError(f"it says {text!r}")
    return identity


def check_not_folder(run: str | Path) -> None:
    """Raise UserError where ``run`` is a path, so that it cannot be an id or a name."""
    text = str(run)
    path = Path(text).is_absolute() or text.startswith(("runs/", "./", "../", "~"))
    if text in ("", ".", "..") or (path and Path(text).is_dir()):
        raise no_run_error(text or "(nothing)")
    if path:
        raise UserError(f"there is no folder {text}. Give a run's folder, id or name")


def no_run_error(folder: str | Path) -> UserError:
    """Return the error for a folder that holds no run."""
    if (Path(folder) / JOURNAL).exists():
        return UserError(
            f"{folder} has lost its {IDENTITY}, which says whose rows its {JOURNAL} holds: put it back from a copy"
        )
    return UserError(f"{folder} holds no run: it has no {IDENTITY}. Give a run's folder, id or name")


def is_id_prefix(run_id: str, text: str) -> bool:
    """Return whether ``text`` is a prefix of the run's id of six or more characters."""
    return len(text) >= _ID_CHARACTERS and run_id.startswith(text)


def is_pending(folder: Path) -> bool:
    """Return whether the run in ``folder`` is still to be made in its store."""
    return (folder / START).exists()


def keep_start(folder: Path) -> None:
    """Note that the store has the run in ``folder``; what it was made from is kept."""
    (folder / START).replace(folder / CREATED)


def make_pending(folder: Path) -> None:
    """Have the run in ``folder`` made again, and sent from the start; the opposite of ``keep_start``."""
    for name in (SENT, LEFT):
        (folder / name).unlink(missing_ok=True)
    (folder / CREATED).replace(folder / START)


def has_records(folder: Path) -> bool:
    """Return whether the journal of the run in ``folder`` holds anything."""
    journal = folder / JOURNAL
    return journal.exists() and journal.stat().st_size > 0


def move_earlier_run(folder: Path) -> Path | None:
    """Make room for a new run where ``folder`` held one before.

    Its journal must not continue under the new run's id. Returns the earlier run's new folder,
    None if there was none. The journal is moved first, the identity last: after a crash in between,
    the next call moves the rest to the same folder.
    """
    names = (JOURNAL, SENT, LEFT, START, CREATED, *_FILES, *_curve_files(folder), IDENTITY)
    present = [name for name in names if (folder / name).exists()]
    if not {JOURNAL, IDENTITY} & {*present}:
        return None
    folders = (folder / f"{EARLIER}{number}" for number in range(1, 1_000_000))
    earlier = next(path for path in folders if not any((path / name).exists() for name in (*present, IDENTITY)))
    earlier.mkdir(exist_ok=True)
    for name in present:
        (folder / name).rename(earlier / name)
    return earlier


def _curve_files(folder: Path) -> list[str]:
    """Return the names of the run's curve files; the same names may be a user's own logger's."""
    with suppress(UserError):
        return [CURVE_FILES[name] for name in read_identity(folder).also if name in CURVE_FILES]
    return []


def is_move_unfinished(folder: Path) -> bool:
    """Return whether a crash interrupted ``move_earlier_run`` in ``folder``."""
    return any(not (journal.parent / IDENTITY).exists() for journal in folder.glob(f"{EARLIER}*/{JOURNAL}"))

"""``reglab clean``: show the disk usage of runs, and free what is no longer needed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.admin.find import run_folders
from reglab.tracking.admin.freeable import Freeable, category, files_of_run, freeable, size
from reglab.tracking.folder import read_identity
from reglab.tracking.lock import RunLock, is_running
from reglab.tracking.settings import redacted, sqlite_path

_LARGEST = 5


def clean(
    folders: Sequence[Path],
    uri: str,
    ask: Callable[[str], bool] | None,
    say: Callable[[str], object] = print,
) -> int:
    """Print the disk usage of the runs below ``folders`` and what can be removed.

    Remove it if ``ask`` returns True. Return 0.

    Args:
        uri: The store from which deleted runs are read.
        ask: None only prints. Runs that a process holds, and data that a store does not have yet,
            stay.

    Raises:
        UserError: Where no run is found.
    """
    runs = run_folders(folders)
    if not runs:
        raise UserError(
            f"no run below {', '.join(map(str, folders))}: give the folder of a run or sweep, or one above it"
        )
    for line in _holdings(runs):
        say(line)
    deleted = _deleted(runs, uri, say)
    items = {folder: _freeable(folder, deleted) for folder in runs if not is_running(folder)}
    if not any(items.values()):
        say("Nothing can be freed.")
        return 0
    say("")
    for line in _table(
        "can be freed", [(each.why, file) for freeables in items.values() for each in freeables for file in each.files]
    ):
        say(line)
    amount = sum(each.bytes for freeables in items.values() for each in freeables)
    if ask is None:
        say(f"To free {_mb(amount)} MB, run this in a terminal or with --yes.")
    elif ask(f"Free {_mb(amount)} MB?"):
        say(f"Freed {_mb(_free([folder for folder, freeables in items.items() if freeables], deleted, say))} MB.")
    return 0


def _free(folders: Sequence[Path], deleted: Mapping[str, Path | None], say: Callable[[str], object]) -> int:
    freed = 0
    for folder in folders:
        try:
            lock = RunLock(folder)
        except UserError as error:  # it has started since, or is not writable
            say(f"skipped: {error}")
            continue
        try:
            for each in freeable(folder, deleted):  # it may have changed since it was looked at
                amount = each.bytes
                each.remove()
                freed += amount
                for path in each.paths:  # of artifacts: RUN_ID, which held nothing else
                    if path.name == "artifacts":
                        _remove_empty(path.parent)
        except (UserError, OSError) as error:
            say(f"{inline(folder)}: {error}")
        finally:
            lock.release()
        _remove_empty(folder)
    return freed


def _freeable(folder: Path, deleted: Mapping[str, Path | None]) -> list[Freeable]:
    try:
        return freeable(folder, deleted)
    except (UserError, OSError):  # damaged by a crash: sync reports it
        return []


def _deleted(runs: Sequence[Path], uri: str, say: Callable[[str], object]) -> Mapping[str, Path | None]:
    path = sqlite_path(uri)
    if not any(_store(folder) == redacted(uri) for folder in runs) or (path is not None and not path.exists()):
        return {}
    from reglab.tracking.mlflow.read import deleted_runs  # late: mlflow

    try:
        return deleted_runs(uri)
    except UserError as error:
        say(f"Cannot tell which runs were deleted in MLflow: {error}")
        return {}


def _store(folder: Path) -> str | None:
    try:
        return read_identity(folder).uri
    except (UserError, OSError):
        return None


def _holdings(runs: Sequence[Path]) -> list[str]:
    files = {folder: files_of_run(folder) for folder in runs}
    sizes = {folder: sum(map(size, run_files)) for folder, run_files in files.items()}
    title = "1 run holds" if len(runs) == 1 else f"{len(runs):,} runs hold"
    largest = sorted(runs, key=lambda folder: -sizes[folder])[:_LARGEST]
    return [
        *_table(title, [(category(file), file) for run_files in files.values() for file in run_files]),
        "",
        "largest",
        *(f"  {_mb(sizes[folder]):>10} MB  {inline(folder)}" for folder in largest),
    ]


def _table(title: str, files: Sequence[tuple[str, Path]]) -> list[str]:
    counts = Counter(name for name, _ in files)
    sizes: Counter[str] = Counter()
    for name, file in files:
        sizes[name] += size(file)
    width = max(len(name) for name in [title, *counts])
    rows = [f"{name:<{width}}  {counts[name]:>7,}  {_mb(sizes[name]):>10}" for name, _ in sizes.most_common()]
    return [f"{title:<{width}}  {'files':>7}  {'MB':>10}", *rows]


def _mb(amount: int) -> str:
    return f"{amount / 1e6:,.1f}"


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

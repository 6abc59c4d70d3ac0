"""A file that an installed package brings along: ``package:sklearn/datasets/data/iris.csv``."""

import re
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from reglab.core.errors import UserError, nearest

PREFIX = "package:"
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".xlsx", ".jsonl", ".ndjson", ".gz")
_SHOWN = 12


def located(path: str) -> Path:
    """Return where a file is; the package is found, and not imported.

    Args:
        path: Of the file, or ``package:NAME/PATH`` of one in an installed package.

    Raises:
        UserError: For a package that is not installed, or has no such file.
    """
    if not path.startswith(PREFIX):
        return Path(path).expanduser()
    name, _, inside = path.removeprefix(PREFIX).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        if imported := _import_name(name):
            raise UserError(
                f"data.path={path}: what is installed as {name} is imported as {imported}; write "
                f"{PREFIX}{imported}/{inside or 'PATH'}"
            )
        raise UserError(
            f"data.path={path}: no package {name!r} is installed; write {PREFIX}sklearn/datasets/data/iris.csv"
        )
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    file = (root / inside).resolve()
    if not inside.strip("/"):
        raise UserError(
            f"data.path={path} names a package alone: give the path of a file in it, {PREFIX}{name}/PATH. "
            f"{_tables(root, root, name)}"
        )
    if file.is_relative_to(root) and file.is_dir():
        raise UserError(f"data.path={path} is a folder: give a file. {_tables(file, root, name)}")
    if not file.is_relative_to(root) or not file.is_file():
        beside = file.parent.glob("*") if file.is_relative_to(root) else ()
        known = [str(each.relative_to(root)) for each in beside if each.is_file()]
        raise UserError(f"data.path={path}: {name} has no file {inside!r}; {nearest(inside, known)}")
    return file


def _import_name(distribution: str) -> str | None:
    """Return the package that a distribution of this name is imported as; None: there is none."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    found = [
        package
        for package, names in packages_distributions().items()
        if package.isidentifier() and not package.startswith("_") and plain(distribution) in map(plain, names)
    ]
    return min(found, default=None)


def _tables(folder: Path, root: Path, name: str) -> str:
    """Return the sentence that lists the tables in a folder of a package."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in TABLES and path.is_file())
    if not found:
        return "There are no tables in it"
    shown = [f"{PREFIX}{name}/{path.relative_to(root).as_posix()}" for path in found[:_SHOWN]]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"Its tables: {', '.join(shown)}{more}"

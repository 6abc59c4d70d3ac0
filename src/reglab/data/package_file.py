"""A file that an installed package brings along: ``package:sklearn/datasets/data/iris.csv``."""

from importlib.util import find_spec
from pathlib import Path

from reglab.core.errors import UserError, nearest

PREFIX = "package:"


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
        raise UserError(
            f"data.path={path}: no package {name!r} is installed; write {PREFIX}sklearn/datasets/data/iris.csv"
        )
    if not inside.strip("/"):
        raise UserError(f"data.path={path} names a package alone: give the path of a file in it, {PREFIX}{name}/PATH")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    file = (root / inside).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        beside = file.parent.glob("*") if file.is_relative_to(root) else ()
        known = [str(each.relative_to(root)) for each in beside if each.is_file()]
        raise UserError(f"data.path={path}: {name} has no file {inside!r}; {nearest(inside, known)}")
    return file

"""Config groups, options and keys, read from the conf folders without Hydra.

Help and completion answer at once.

Hydra composes; this only lists. A folder given later (``--config-dir``) adds to the earlier ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PRIMARY = "train"

Choices = Mapping[str, Sequence[str]]  # group -> chosen options


def groups(folders: Sequence[Path]) -> list[str]:
    """Return the config groups, such as ``optimizer`` or ``hydra/launcher``, sorted."""
    names = {
        file.parent.relative_to(folder).as_posix()
        for folder in folders
        for file in folder.glob("*/**/*.yaml")
        if not file.name.startswith("_")
    }
    return sorted(names)


def options(folders: Sequence[Path], group: str) -> dict[str, str]:
    """Return option -> one-line description (the first comment of its file), sorted by option."""
    descriptions = {
        file.stem: _description(file)
        for folder in reversed(folders)
        for file in (folder / group).glob("*.yaml")
        if not file.name.startswith("_")
    }
    return dict(sorted(descriptions.items()))


def defaults(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return the options that the primary config chooses, by group."""
    entries = _load(folders, PRIMARY).get("defaults", [])
    chosen: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, dict):
            for group, value in entry.items():
                chosen[group.removeprefix("override ").strip()] = as_options(value)
    return chosen


def keys(folders: Sequence[Path], choices: Choices) -> list[str]:
    """Return the dotted keys of the config with these ``choices``, sorted (no interpolation).

    For a group without a choice every option's keys are listed, so that a cocktail's keys can be
    found.
    """
    dotted = _dotted({key: value for key, value in _load(folders, PRIMARY).items() if key != "defaults"})
    for group in groups(folders):
        if not group.startswith(("experiment", "debug", "hydra")):
            for option in choices.get(group) or options(folders, group):
                dotted |= {f"{group.replace('/', '.')}.{key}" for key in _dotted(_option(folders, group, option))}
    return sorted(dotted)


def as_options(value: object) -> list[str]:
    """Return the options in a value of a defaults list: ``adam``, ``[l1, dropout]`` or null."""
    values = value if isinstance(value, list) else [value]
    return [str(option) for option in values if option is not None]


def _option(folders: Sequence[Path], group: str, option: str) -> dict[str, Any]:
    content = _load(folders, f"{group}/{option}")
    merged: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str) and entry not in ("_self_", option):
            merged |= _option(folders, group, entry)
    return merged | content


def _load(folders: Sequence[Path], name: str) -> dict[str, Any]:
    from reglab.config.yaml_file import read_plain  # late: listing options does not need it

    for folder in folders:
        file = folder / f"{name}.yaml"
        if file.is_file():
            return read_plain(file)
    return {}


def _dotted(content: Mapping[str, Any], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            keys |= _dotted(value, f"{name}.")
        elif not str(key).startswith("_"):
            keys.add(name)
    return keys


def _description(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            text = line.strip()
            if text and not text.startswith("#"):
                return ""
            if text and not text.startswith("# @package"):
                return text.lstrip("# ")
    return ""

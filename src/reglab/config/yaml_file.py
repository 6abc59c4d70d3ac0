"""Read YAML that somebody else may have written: plain data, of limited size."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reglab.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_LARGEST = 4_000_000  # bytes of a file, and characters of what it stands for once its aliases are written out
_DEEPEST = 50
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: Path) -> "DictConfig":
    """Return the mapping in a YAML file, its interpolations as they are written.

    Raises:
        UserError: As ``check_yaml``, and for a file that holds no mapping.
        FileNotFoundError: There is no such file.
    """
    from omegaconf import DictConfig, OmegaConf  # late: help and completion need none of it

    check_yaml(path)
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, ValueError, OSError) as error:  # a key twice, a number of thousands of digits, one word
        raise _unreadable(path, error) from error
    if not isinstance(content, DictConfig):
        raise UserError(f"{path} is not a mapping of keys to values, which a configuration is")
    return content


def read_plain(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML file as a dict, empty where it holds none.

    Raises:
        UserError: As ``check_yaml``.
        FileNotFoundError: There is no such file.
    """
    check_yaml(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # a safe one
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(path, error) from error
    return content if isinstance(content, dict) else {}


def check_yaml(path: Path) -> None:
    """Refuse a YAML file that is more than plain data, before anything is made of it.

    Tags name types of Python, aliases multiply what they stand for ("billion laughs"), and what is
    nested deeply or very large takes all memory.

    Raises:
        UserError: Naming the file and what is wrong with it.
        FileNotFoundError: There is no such file.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a plain file: put one there")  # opening a pipe would wait for ever
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"{path} has more than {_LARGEST // 1_000_000} MB: no configuration is that large")
        _check_events(path, content.decode("utf-8"))
    except FileNotFoundError:
        raise
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _check_events(path: Path, text: str) -> None:
    """Go through the parser's events, which are not nested, and weigh each node that has a name."""
    weights: dict[str, int] = {}
    unfinished: list[tuple[str | None, int]] = [(None, 0)]  # the name and weight of each node that is not yet over
    for event in yaml.parse(text, Loader=_LOADER):
        name: str | None = getattr(event, "anchor", None)
        if tag := getattr(event, "tag", None):
            raise UserError(f"{path} has the YAML tag {tag!a}: configurations are plain data, so write the value alone")
        if isinstance(event, yaml.CollectionStartEvent):
            unfinished.append((name, 1))
            if len(unfinished) > _DEEPEST:
                raise UserError(f"{path} is nested more than {_DEEPEST} deep: no configuration is")
            continue
        weight = _weight(path, event, weights)
        if isinstance(event, yaml.CollectionEndEvent):
            name, weight = unfinished.pop()
        if name and not isinstance(event, yaml.AliasEvent):
            weights[name] = weight
        holder, before = unfinished[-1]
        if before + weight > _LARGEST:
            raise UserError(f"{path} is too large once its aliases are written out: write them out yourself, or fewer")
        unfinished[-1] = (holder, before + weight)


def _weight(path: Path, event: Any, weights: dict[str, int]) -> int:
    if isinstance(event, yaml.ScalarEvent):
        return 1 + len(event.value)
    if not isinstance(event, yaml.AliasEvent):
        return 0
    if event.anchor not in weights:
        raise UserError(f"{path} has the alias *{event.anchor}, which refers to itself or to nothing: write it out")
    return weights[event.anchor]


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"{path} cannot be read as YAML ({reason}): correct it, or leave the file out")

"""Numbers, truth values and texts where a class says that it takes them.

Many classes use an argument late, or take any text for true: ``false`` in quotes is true.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from reglab.core.errors import UserError

_SIMPLE = {"bool": "true or false", "str": "a text", "int": "a whole number", "float": "a number"}
_BESIDE = {"NoneType", "Tensor"}  # what else may be among the types of such an argument


def check_kinds(cls: type, arguments: Mapping[str, Any], key: str) -> None:
    """Refuse what is no number, truth value or text for arguments that are annotated as one.

    Args:
        cls: The class.
        arguments: Its keyword arguments.
        key: The config key, for messages.

    Raises:
        UserError: Naming the first one.
    """
    try:
        hints = get_type_hints(vars(cls).get("__init__", cls.__init__))  # type: ignore[misc]  # not an instance's
    except (NameError, TypeError):
        return
    for name, value in arguments.items():
        kinds = _names(hints.get(name))
        simple = kinds & _SIMPLE.keys()
        if value is None or not simple or not kinds <= simple | _BESIDE or type(value).__name__ == "Tensor":
            continue
        if type(value).__name__ not in kinds and not (type(value) is int and "float" in kinds):
            wanted = " or ".join(words for kind, words in _SIMPLE.items() if kind in kinds)
            raise UserError(f"{key}.{name}={value} must be {wanted}")


def _names(hint: Any) -> set[str]:
    several = isinstance(hint, UnionType) or get_origin(hint) is Union
    return {getattr(kind, "__name__", "") for kind in (get_args(hint) if several else (hint,))}

"""Settings of a data set as they are typed in a shell."""

import re
import shlex
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESERVED = frozenset({"true", "false", "null", "nan", "inf"})


def setting(key: str, value: str | Sequence[str] | Mapping[str, str]) -> str:
    """Return ``data.KEY=VALUE`` as it is typed: quoted for Hydra, and for the shell where needed.

    Example:
        >>> setting("drop", ["price"])
        'data.drop=[price]'
        >>> print(setting("drop", ["a [mm]"]))
        'data.drop=["a [mm]"]'
    """
    if isinstance(value, str):
        written = hydra_text(value)
    elif isinstance(value, Mapping) and not all(map(_PLAIN.fullmatch, value)):
        return setting(key, [f"{name}={each}" for name, each in value.items()])  # Hydra quotes no keys
    elif isinstance(value, Mapping):
        written = "{" + ", ".join(f"{hydra_text(name)}: {hydra_text(each)}" for name, each in value.items()) + "}"
    else:
        written = "[" + ",".join(map(hydra_text, value)) + "]"
    whole = f"data.{key}={written}"
    return whole if re.fullmatch(r"[A-Za-z0-9_.=,\[\]-]+", whole) else shlex.quote(whole)


def hydra_text(text: str) -> str:
    """Return ``text`` in Hydra's grammar of overrides: as it is where that stays a text, else quoted."""
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return '"' + re.sub(r'(\\*)("|$)', lambda end: end[1] * 2 + ('\\"' if end[2] else ""), text) + '"'

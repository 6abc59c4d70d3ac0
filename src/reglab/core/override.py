"""Write values as Hydra's overrides, and overrides as words of a shell."""

import re
import shlex
from collections.abc import Mapping, Sequence

_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_RESERVED = ("null", "true", "false", "nan", "inf")
_IN_KEYS = re.compile(r"[\\()\[\]{}:=, \t]")  # what a key of a mapping needs a backslash for


def typed(key: str, value: object) -> str:
    """Return ``key=value`` as a word that can be typed into a shell, and means just that value.

    Example:
        >>> print(typed("data.drop", ["a [mm]", "b, c", "2023"]))
        'data.drop=["a [mm]","b, c","2023"]'
        >>> print(typed("data.target", "price"))
        data.target=price
    """
    return shlex.quote(override(key, literal(value)))


def override(key: str, value: object) -> str:
    """Return the override of ``key`` from which Hydra reads ``value``.

    Args:
        key: Dotted, perhaps with ``+`` or ``~`` before it.
        value: Text, a number, a truth value, None, or lists and mappings of these. A text may hold
            interpolations; see ``literal``.
    """
    return f"{key}={in_grammar(value)}"


def in_grammar(value: object) -> str:
    """Return ``value`` as Hydra's grammar writes it.

    Text is quoted unless it is a plain word; a number or truth value as text always is.
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and value.lower() not in _RESERVED
        return value if plain else _in_quotes(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{in_grammar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def literal(value: object) -> object:
    """Return ``value`` with ``${`` in its texts escaped, which OmegaConf would resolve otherwise."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, Sequence) else value


def _in_quotes(text: str) -> str:
    quote = "'" if '"' in text and "'" not in text else '"'
    # Backslashes count as escapes before a quote alone.
    escaped = re.sub(rf"(\\*)({quote}|\Z)", lambda found: found[1] * 2 + (f"\\{quote}" if found[2] else ""), text)
    return f"{quote}{escaped}{quote}"


def _key(key: object) -> str:
    """Return a key of a mapping, for which the grammar has no quotes."""
    return _IN_KEYS.sub(r"\\\g<0>", key) if isinstance(key, str) else in_grammar(key)

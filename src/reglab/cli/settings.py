"""Settings ``key=value`` of the sub-commands that use a trained model."""

from collections.abc import Sequence

from reglab.core.errors import UserError, nearest

READING = ("separator", "decimal", "missing", "encoding", "header", "sheet")


def settings(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the values by key, each as it was typed.

    Args:
        words: ``key=value``.
        known: The keys that there are.

    Raises:
        UserError: For another key, naming the nearest.

    Example:
        >>> settings(["out=a=b.csv"], ["out"])
        {'out': 'a=b.csv'}
    """
    found: dict[str, str] = {}
    for word in words:
        key, given, value = word.partition("=")
        if not given:
            raise UserError(f"{word}: give it as KEY=VALUE, where KEY is one of {', '.join(known)}")
        if key not in known:
            raise UserError(f"{key} is not a setting of this command: {nearest(key, known)}")
        if key in found:
            raise UserError(f"{key} is given twice: leave one of them out")
        found[key] = value
    return found


def several(value: str) -> list[str]:
    """Return the names in ``a,b`` or ``[a,b]``.

    Example:
        >>> several("[a, b]")
        ['a', 'b']
    """
    return [name.strip() for name in value.removeprefix("[").removesuffix("]").split(",") if name.strip()]

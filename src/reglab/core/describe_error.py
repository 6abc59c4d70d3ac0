"""One line about an exception, as every terminal, journal and store takes it."""

_LONGEST = 2_000  # characters of a message; MLflow takes 5,000 of a tag, and a person reads fewer


def describe_error(error: BaseException) -> str:
    """Return ``Type: message`` of an error, however its message looks.

    Args:
        error: Any. Of ``sys.exit`` and the like it is said that the code called them.

    Example:
        >>> describe_error(KeyError("lr"))
        "KeyError: 'lr'"
    """
    name, text = type(error).__name__, _message(error)
    if isinstance(error, SystemExit):
        return cut(f"the code of the run called sys.exit({error.code!r})")
    if isinstance(error, KeyboardInterrupt):
        return cut(f"the code of the run raised {name}{f' ({text})' if text else ''}; nobody pressed Ctrl-C")
    if type(error).__module__ == "reglab.core.errors":
        return cut(text or name)
    described = f"{name}: {text}" if text else name
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        described += f" ({describe_error(error.__cause__)})"
    return cut(described)


def storable(text: str) -> str:
    r"""Return text without the characters that a store refuses: lone surrogates, and NUL.

    Example:
        >>> storable("a\udcff\0")
        'a\\udcff\\x00'
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def cut(text: str) -> str:
    """Return text that every store takes, at most 2,000 characters of it."""
    return storable(text if len(text) <= _LONGEST else text[:_LONGEST] + " ...")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a model's own class, whose __str__ may be wrong
        return "(its message cannot be read)"

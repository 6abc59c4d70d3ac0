"""Questions to the person at the terminal."""

import sys
from collections.abc import Callable


def asker() -> Callable[[str], bool] | None:
    """Return the function that asks for a yes; None where nobody can answer, as in a script."""
    return confirm if sys.stdin.isatty() and sys.stdout.isatty() else None


def confirm(question: str) -> bool:
    """Ask ``question`` and return whether the answer is yes."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False

"""Count how often this process opens files to read them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_counting: list[tuple[Path, Counter[str]]] = []


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if not _counting or event != "open" or not isinstance(arguments[0], str | Path):
        return
    folder, counts = _counting[-1]
    path, flags = Path(arguments[0]).absolute(), arguments[2]
    if path.suffix and path.is_relative_to(folder) and isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR):
        counts[path.name] += 1


sys.addaudithook(_on_event)  # for good: Python has no way to remove one


@contextmanager
def file_reads(folder: Path) -> Iterator[Counter[str]]:
    """Yield how often each file below ``folder`` was opened for reading inside the context, by name."""
    counts: Counter[str] = Counter()
    _counting.append((folder.absolute(), counts))
    try:
        yield counts
    finally:
        _counting.pop()

"""Read requirements.lock: a list of pins with their hashes, under headings such as ``# [run]``."""

import re
from typing import NamedTuple

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+]+)(?: ; (?P<marker>[^#]+))?")


class Line(NamedTuple):
    """One requirement: the heading above it, what is asked for, and the ``sha256:...`` of the files that may be it."""

    section: str
    requirement: str
    hashes: tuple[str, ...]

    @property
    def pin(self) -> re.Match[str] | None:
        """``name==version ; marker``, or None where the line says something else."""
        return PIN.fullmatch(self.requirement)

    def __str__(self) -> str:
        return " \\\n    ".join([self.requirement, *(f"--hash={each}" for each in self.hashes)])


def canonical(name: str) -> str:
    """Return the form of a distribution's name that package indexes compare by."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> list[Line]:
    """Return the requirements of a lock's text, or of what a compiler of requirements printed, in their order."""
    section, lines = "", []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if heading := re.match(r"# \[([^]]+)\]", line):
            section = heading[1]
        elif line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = (part.strip() for part in re.split(r"\s--hash=", line))
            lines.append(Line(section, requirement, tuple(hashes)))
    return lines

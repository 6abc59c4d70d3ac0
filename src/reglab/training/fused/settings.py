"""How packs train."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackSettings:
    """compile: None where it saves more time than it takes. threads: of the worker process.

    always: fuse also where the jobs would be done sooner one by one.
    """

    compile: bool | None = None
    threads: int = 1
    always: bool = False

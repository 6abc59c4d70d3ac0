"""How packs train."""

from dataclasses import dataclass

COMPILE_SECONDS = 120.0


@dataclass(frozen=True)
class PackSettings:
    """compile: None where it saves more time than it takes. threads: of the worker process.

    always: fuse also where the jobs would be done sooner one by one. compile_seconds: after which compiling is given
    up.
    """

    compile: bool | None = None
    threads: int = 1
    always: bool = False
    compile_seconds: float = COMPILE_SECONDS

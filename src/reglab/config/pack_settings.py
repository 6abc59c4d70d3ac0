"""Settings of fused training: compilation, threads, when to fuse."""

from dataclasses import dataclass

COMPILE_SECONDS = 120.0


@dataclass(frozen=True)
class PackSettings:
    """Settings of a pack.

    Args:
        compile: None where it saves more time than it takes.
        threads: Of the worker process.
        always: Fuse also where the jobs would be done sooner one by one.
        compile_seconds: After which compiling is given up.
    """

    compile: bool | None = None
    threads: int = 1
    always: bool = False
    compile_seconds: float = COMPILE_SECONDS

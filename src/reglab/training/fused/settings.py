"""How packs train."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackSettings:
    """compile: by ``torch.compile``; None: where it saves more time than it takes. threads: of the worker process."""

    compile: bool | None = None
    threads: int = 1

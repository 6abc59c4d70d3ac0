"""One run started as several processes, by torchrun, srun or Lightning: which of them this is, what all agree on."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_GRACE = 20.0  # seconds that a process may go on training after the one that started it is gone
_INTERRUPTED = "interrupted"
BY_HAND = ("bash", "interactive")  # names of Slurm jobs in which Lightning, too, lets each process be by itself


@dataclass(frozen=True)
class Place:
    """This process among those of its run. starter: of all, "" for one alone. lead: it is the first on its node."""

    starter: Literal["", "torchrun", "srun", "lightning"] = ""
    rank: int = 0
    ranks: int = 1
    lead: bool = True

    @property
    def first(self) -> bool:
        """Whether this is the process that records the run and shows it."""
        return self.rank == 0


def place() -> Place:
    """Return which process of its run this is, by the environment, as Lightning reads it."""
    given = os.environ
    lead = given.get("LOCAL_RANK", given.get("SLURM_LOCALID", "0")) == "0"
    if "TORCHELASTIC_RUN_ID" in given:
        return Place("torchrun", int(given.get("RANK", 0)), int(given.get("WORLD_SIZE", 1)), lead)
    if "SLURM_STEP_ID" in given and given.get("SLURM_JOB_NAME") not in BY_HAND:
        return Place("srun", int(given.get("SLURM_PROCID", 0)), int(given.get("SLURM_NTASKS", 1)), lead)
    local, node = int(given.get("LOCAL_RANK", 0)), int(given.get("NODE_RANK", 0))
    if local or node:  # the very first process is not told that there are more before it starts them
        return Place("lightning", int(given.get("RANK", local or node)), int(given.get("WORLD_SIZE", 2)), lead)
    return Place()


def tells(message: str = _INTERRUPTED) -> bool:
    """Return whether this process is the one to tell how it ended, or another does.

    Under torchrun that is whoever is first: it ends the others as soon as one has ended. An interruption is not told
    where there was something else to tell.
    """
    here = place()
    if here.starter != "torchrun" or here.ranks == 1:
        return here.first or (message != _INTERRUPTED and (here.lead or here.starter == "lightning"))
    place_of_words = f"reglab/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    digest = hashlib.sha256(message.encode()).hexdigest()
    try:
        mine = claim(f"{place_of_words}/{digest}", str(here.rank)) == str(here.rank)
        return (claim(place_of_words, digest) == digest or message != _INTERRUPTED) and mine
    except RuntimeError:  # torchrun is gone
        return here.first


@contextmanager
def following() -> Iterator[None]:
    """End this process where Lightning's first one, which started it, dies inside the context: it may wait for ever."""
    if place().starter == "lightning" and not place().lead:
        over, parent = threading.Event(), os.getppid()
        threading.Thread(target=_end_with, args=(parent, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
    else:
        yield


def _end_with(parent: int, over: threading.Event) -> None:
    while os.getppid() == parent:
        if over.wait(1):
            return
    time.sleep(_GRACE)
    if not over.is_set():
        os._exit(1)


def claim(key: str, value: str) -> str:
    """Return what the first process gave for ``key``, which is ``value`` where that is this one."""
    found = _store().compare_set(key, "", value)
    return bytes(found).decode()


@cache
def _store() -> "Store":
    """Return the store that torchrun keeps for its processes; it outlives them."""
    from torch.distributed.rendezvous import rendezvous  # late: torch

    store: Store = next(rendezvous("env://"))[0]
    return store

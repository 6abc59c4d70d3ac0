"""Rank and world size of this process under torchrun, srun or Lightning; shared values."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from reglab.processes.parent_watch import exit_with_parent

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_GRACE = 20.0  # seconds to exit after the parent process is gone
_INTERRUPTED = "interrupted"
INTERACTIVE_JOBS = ("bash", "interactive")  # Slurm jobs that Lightning treats as one process


@dataclass(frozen=True)
class ProcessRank:
    """The rank of this process in its run.

    Attributes:
        launched_by: What started the processes; empty for a single one.
        rank: The global rank.
        ranks: The world size.
        node_leader: Whether its local rank is 0.
    """

    launched_by: Literal["", "torchrun", "srun", "lightning"] = ""
    rank: int = 0
    ranks: int = 1
    node_leader: bool = True

    @property
    def first(self) -> bool:
        """Whether this is the process that records the run and shows it."""
        return self.rank == 0


def process_rank() -> ProcessRank:
    """Return this process's rank from the environment variables, read as Lightning reads them."""
    variables = os.environ
    node_leader = variables.get("LOCAL_RANK", variables.get("SLURM_LOCALID", "0")) == "0"
    if "TORCHELASTIC_RUN_ID" in variables:
        return ProcessRank("torchrun", int(variables.get("RANK", 0)), int(variables.get("WORLD_SIZE", 1)), node_leader)
    if "SLURM_STEP_ID" in variables and variables.get("SLURM_JOB_NAME") not in INTERACTIVE_JOBS:
        return ProcessRank(
            "srun", int(variables.get("SLURM_PROCID", 0)), int(variables.get("SLURM_NTASKS", 1)), node_leader
        )
    local, node = int(variables.get("LOCAL_RANK", 0)), int(variables.get("NODE_RANK", 0))
    if local or node:  # the first process starts the others, without variables of its own
        return ProcessRank(
            "lightning", int(variables.get("RANK", local or node)), int(variables.get("WORLD_SIZE", 2)), node_leader
        )
    return ProcessRank()


def reports_end(message: str = _INTERRUPTED) -> bool:
    """Tell whether this rank prints how the run ended, or another rank does.

    Under torchrun it is the first to ask, since torchrun terminates the others then. An
    interruption is not printed where another message was.

    Args:
        message: What would be printed.
    """
    current = process_rank()
    if current.launched_by != "torchrun" or current.ranks == 1:
        return current.first or (
            message != _INTERRUPTED and (current.node_leader or current.launched_by == "lightning")
        )
    prefix = f"reglab/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    digest = hashlib.sha256(message.encode()).hexdigest()
    try:
        mine = agree_on(f"{prefix}/{digest}", str(current.rank)) == str(current.rank)
        return (agree_on(prefix, digest) == digest or message != _INTERRUPTED) and mine
    except RuntimeError:  # torchrun is gone
        return current.first


@contextmanager
def exit_with_first_rank() -> Iterator[None]:
    """Exit, inside the context, some seconds after the rank that started this one has died."""
    if process_rank().launched_by != "lightning" or process_rank().node_leader:
        yield
        return
    finished = exit_with_parent(_GRACE, terminate=False)
    try:
        yield
    finally:
        finished.set()


def agree_on(key: str, value: str) -> str:
    """Return one value for ``key`` on all ranks that torchrun started: the one of the first to ask.

    Args:
        key: A name in torchrun's store.
        value: The value of this rank, kept if it is the first.
    """
    agreed = _store().compare_set(key, "", value)
    return bytes(agreed).decode()


@cache
def _store() -> "Store":
    """Return torchrun's key-value store, which outlives the ranks."""
    from torch.distributed.rendezvous import rendezvous  # late: torch

    store: Store = next(rendezvous("env://"))[0]
    return store

"""Warm-started paths: ``sweep.path`` lets each job start from the weights of its neighbour in strength.

Source: Friedman, Hastie, Tibshirani (2010), Regularization paths for generalized linear models via coordinate descent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from omegaconf import OmegaConf

from reglab.analysis.formatting import listing
from reglab.config.fingerprint import computed_part, hash_config
from reglab.core.errors import UserError
from reglab.launchers.compose import Composer
from reglab.launchers.packing import differing, structure
from reglab.sweeps.blocks import Job

_SIGN = {"up": 1, "down": -1}
_LAUNCHERS = ("fused", "local", "process")  # the ones that let a job wait for another


@dataclass(frozen=True)
class Link:
    """Where a job starts. after: the number of the job before it on its path.

    trail: the hash of what that job computes, and of all before it: the same job after others is another job.
    """

    after: int
    trail: str


def links(jobs: Sequence[Job], composer: Composer) -> dict[int, Link]:
    """Return the link of each job that starts from another's weights: of none without ``sweep.path``.

    A path holds the jobs of a block that are equal but for one number of a regularizer, its ``strength`` where several
    vary; ``up`` goes from its smallest value to its largest. The jobs must be known to compose and resolve.
    Raises UserError if there is no such path, or the launcher cannot keep jobs in turn.
    """
    sign = _sign(jobs, composer)
    if sign is None:
        return {}
    configs = {job.number: composer.resolved(job.overrides) for job in jobs}
    groups: dict[object, list[int]] = {}
    for job in jobs:
        groups.setdefault((job.block, structure(configs[job.number])), []).append(job.number)
    blocks = {job.number: job.block for job in jobs}
    found: dict[int, Link] = {}
    for group in groups.values():
        for path in _paths({number: configs[number] for number in group}, blocks[group[0]], sign):
            trail = None
            for earlier, number in pairwise(path):
                trail = hash_config([trail, computed_part(configs[earlier])])
                found[number] = Link(earlier, trail)
    if not found:
        raise UserError(
            "sweep.path: no two jobs differ in a number of a regularizer. Sweep one, such as regularizer=[l1] "
            "'regularizer.l1.strength=log(1e-5,1e-1,20)', or leave sweep.path out"
        )
    return found


def _sign(jobs: Sequence[Job], composer: Composer) -> int | None:
    wanted = OmegaConf.select(composer.master, "sweep.path", default=None)
    given = {override for job in jobs for override in job.overrides if override.startswith("sweep.path=")}
    if len(given) > 1 or (wanted is None and given - {"sweep.path=null"}):
        raise UserError(
            f"sweep.path holds for a whole sweep, got {listing(sorted(given))}: give it once, on the command line"
        )
    if wanted is None:
        return None
    if wanted not in _SIGN:
        raise UserError(f"sweep.path must be null, up (from the smallest number on) or down, got {wanted!r}")
    launcher = OmegaConf.select(composer.master, "hydra.runtime.choices.hydra/launcher")
    if launcher not in _LAUNCHERS:
        raise UserError(
            f"sweep.path={wanted} needs hydra/launcher=fused, local or process, which let a job wait for the one that "
            f"it starts from, got {launcher}"
        )
    return _SIGN[wanted]


def _paths(configs: Mapping[int, Mapping[str, Any]], block: str, sign: int) -> list[list[int]]:
    """Return the paths, each in its order, of jobs that differ in free numbers only."""
    varying = differing(list(configs.values()))
    number = _followed([key for key in varying if key.startswith("regularizer.")], block)
    if number is None:
        return []
    others = [values for key, values in varying.items() if key != number]
    paths: dict[tuple[float, ...], list[tuple[float, int]]] = {}
    for place, job in enumerate(configs):
        paths.setdefault(tuple(values[place] for values in others), []).append((sign * varying[number][place], job))
    return [[job for _, job in sorted(path)] for path in paths.values()]


def _followed(numbers: Sequence[str], block: str) -> str | None:
    main = [key for key in numbers if key.endswith(".strength")]
    among = main or numbers
    if len(among) > 1:
        raise UserError(
            f"sweep.path follows one number, but {listing(among)} vary in the block {block}: sweep one of them, and "
            "give each value of the others a block of its own in sweep.blocks"
        )
    return among[0] if among else None

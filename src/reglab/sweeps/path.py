"""Warm-started paths: with ``sweep.path`` each job starts from its neighbour's weights.

Source: Friedman, Hastie, Tibshirani (2010), Regularization paths for generalized linear models via
coordinate descent.
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
from reglab.launchers.request_launcher import Capabilities
from reglab.sweeps.blocks import Job

_SIGN = {"up": 1, "down": -1}


@dataclass(frozen=True)
class Link:
    """Where a job of a path starts.

    Attributes:
        after: The number of the job before it on its path.
        trail: The hash of what the jobs before it compute: after others it is another job.
    """

    after: int
    trail: str


def links(jobs: Sequence[Job], composer: Composer, can: Capabilities) -> dict[int, Link]:
    """Return the link of each job that starts from another's weights; none without ``sweep.path``.

    A path holds the jobs of a block that are equal but for one number of a regularizer, its
    ``strength`` where several vary; ``up`` goes from its smallest value to its largest.

    Args:
        jobs: Of the sweep; they must compose and resolve.
        composer: Of the sweep.
        can: Of the launcher.

    Raises:
        UserError: There is no such path, or the launcher cannot run jobs in order.
    """
    direction = _direction(jobs, composer, can)
    if direction is None:
        return {}
    configs = {job.number: composer.resolved(job.overrides) for job in jobs}
    groups: dict[object, list[int]] = {}
    for job in jobs:
        groups.setdefault((job.block, structure(configs[job.number])), []).append(job.number)
    blocks = {job.number: job.block for job in jobs}
    links_by_job: dict[int, Link] = {}
    for group in groups.values():
        for path in _paths({number: configs[number] for number in group}, blocks[group[0]], direction):
            trail = None
            for earlier, number in pairwise(path):
                trail = hash_config([trail, computed_part(configs[earlier])])
                links_by_job[number] = Link(earlier, trail)
    if not links_by_job:
        raise UserError(
            "sweep.path: no two jobs differ in a number of a regularizer. Sweep one, such as regularizer=[l1] "
            "'regularizer.l1.strength=log(1e-5,1e-1,20)', or leave sweep.path out"
        )
    return links_by_job


def _direction(jobs: Sequence[Job], composer: Composer, can: Capabilities) -> int | None:
    setting = OmegaConf.select(composer.master, "sweep.path", default=None)
    overrides = {override for job in jobs for override in job.overrides if override.startswith("sweep.path=")}
    if len(overrides) > 1 or (setting is None and overrides - {"sweep.path=null"}):
        raise UserError(
            f"sweep.path holds for a whole sweep, got {listing(sorted(overrides))}: give it once, on the command line"
        )
    if setting is None:
        return None
    if setting not in _SIGN:
        raise UserError(f"sweep.path must be null, up (from the smallest number on) or down, got {setting!r}")
    if not can.waits:
        launcher = OmegaConf.select(composer.master, "hydra.runtime.choices.hydra/launcher")
        raise UserError(
            f"sweep.path={setting} needs hydra/launcher=fused, local or process, which let a job wait for the one that "
            f"it starts from, got {launcher}"
        )
    return _SIGN[setting]


def _paths(configs: Mapping[int, Mapping[str, Any]], block: str, direction: int) -> list[list[int]]:
    """Return the paths of jobs that differ only in free numbers, each in its order."""
    varying = differing(list(configs.values()))
    path_key = _path_key([key for key in varying if key.startswith("regularizer.")], block)
    if path_key is None:
        return []
    others = [values for key, values in varying.items() if key != path_key]
    paths: dict[tuple[float, ...], list[tuple[float, int]]] = {}
    for index, job in enumerate(configs):
        paths.setdefault(tuple(values[index] for values in others), []).append(
            (direction * varying[path_key][index], job)
        )
    return [[job for _, job in sorted(path)] for path in paths.values()]


def _path_key(numbers: Sequence[str], block: str) -> str | None:
    strengths = [key for key in numbers if key.endswith(".strength")]
    keys = strengths or numbers
    if len(keys) > 1:
        raise UserError(
            f"sweep.path follows one number, but {listing(keys)} vary in the block {block}: sweep one of them, and "
            "give each value of the others a block of its own in sweep.blocks"
        )
    return keys[0] if keys else None

"""Short labels for the jobs of a sweep: block, then the overrides that differ."""

from collections.abc import Iterable, Sequence

from reglab.config.job_request import JobRequest

_OMITTED = ("sweep.", "hydra", "regularizer=")


def job_labels(requests: Iterable[JobRequest]) -> dict[int, str]:
    """Return a label for each job: the block, then what differs between the jobs of the block.

    A key is cut to its last part: ``l1 strength=0.001 seed=2``.

    Args:
        requests: Of the jobs.
    """
    jobs = list(requests)
    blocks: dict[str, list[set[str]]] = {}
    for job in jobs:
        blocks.setdefault(job.block, []).append(set(job.overrides))
    common = {block: set.intersection(*sets) if len(sets) > 1 else set() for block, sets in blocks.items()}
    common_to_all = set.intersection(*(each for sets in blocks.values() for each in sets)) if len(jobs) > 1 else set()
    return {job.number: _label(job.block, job.overrides, common[job.block] | common_to_all) for job in jobs}


def _label(block: str, overrides: Sequence[str], omitted: set[str]) -> str:
    parts = [block]
    for override in overrides:
        if override not in omitted and not override.startswith(_OMITTED):
            key, _, value = override.partition("=")
            parts.append(f"{key.rpartition('.')[2]}={value}")
    return " ".join(part for part in parts if part) or "the only job"

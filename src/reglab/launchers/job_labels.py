"""Short labels for the jobs of a sweep: block, then the overrides that differ."""

from collections.abc import Mapping, Sequence

_OMITTED = ("sweep.", "hydra", "regularizer=")
_BLOCK = "sweep.block="


def job_labels(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return a label for each job: the block, then what differs between the jobs of the block.

    A key is cut to its last part: ``l1 strength=0.001 seed=2``.

    Args:
        jobs: Overrides by job number.
    """
    blocks: dict[str, list[set[str]]] = {}
    for overrides in jobs.values():
        blocks.setdefault(_block(overrides), []).append(set(overrides))
    common = {block: set.intersection(*sets) if len(sets) > 1 else set() for block, sets in blocks.items()}
    common_to_all = set.intersection(*(each for sets in blocks.values() for each in sets)) if len(jobs) > 1 else set()
    return {job: _label(overrides, common[_block(overrides)] | common_to_all) for job, overrides in jobs.items()}


def _block(overrides: Sequence[str]) -> str:
    return next((each.removeprefix(_BLOCK).strip("'") for each in overrides if each.startswith(_BLOCK)), "")


def _label(overrides: Sequence[str], omitted: set[str]) -> str:
    parts = [_block(overrides)]
    for override in overrides:
        if override not in omitted and not override.startswith(_OMITTED):
            key, _, value = override.partition("=")
            parts.append(f"{key.rpartition('.')[2]}={value}")
    return " ".join(part for part in parts if part) or "the only job"

"""Short names for the jobs of a sweep: what tells each from the others."""

from collections.abc import Mapping, Sequence

_OWN = "sweep."
_BLOCK = "sweep.block="


def job_labels(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return a label for each job from its overrides: the block, then the keys whose values differ between jobs.

    A key is cut to its last part: ``l1 strength=0.001 seed=2``.
    """
    everywhere = set.intersection(*(set(overrides) for overrides in jobs.values())) if len(jobs) > 1 else set()
    return {job: _label(overrides, everywhere) for job, overrides in jobs.items()}


def _label(overrides: Sequence[str], everywhere: set[str]) -> str:
    block = next((override.removeprefix(_BLOCK) for override in overrides if override.startswith(_BLOCK)), "")
    parts = [block.strip("'")]
    for override in overrides:
        key, _, value = override.partition("=")
        if override not in everywhere and not key.startswith((_OWN, "hydra")) and key != "regularizer":
            parts.append(f"{key.rpartition('.')[2]}={value}")
    return " ".join(part for part in parts if part) or "the only job"

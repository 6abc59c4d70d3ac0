"""Which learning rate schedules end with the run, so that it cannot be extended."""

from collections.abc import Mapping
from typing import Any

FILLED_IN = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "WarmupDecay": "total_steps"}
"""The argument that is the number of steps (or epochs), filled in from the run's length where it is
not given, by the name of the class.
"""


def filled_in(node: Mapping[str, Any]) -> str | None:
    """Return the argument of a scheduler's config node that the run's length fills in, if any."""
    name = FILLED_IN.get(str(node.get("_target_", "")).rpartition(".")[2])
    given = name is None or node.get(name) is not None or node.get("epochs") is not None
    return None if given else name


def ends_with_run(node: Mapping[str, Any]) -> bool:
    """Return whether a schedule, or one that it is made of, is stretched over the run."""
    parts = [part for part in node.get("schedulers") or () if isinstance(part, Mapping)]
    milestones = node.get("milestones") or ()
    shares = any(isinstance(milestone, float) for milestone in milestones)
    return shares or filled_in(node) is not None or any(map(ends_with_run, parts))

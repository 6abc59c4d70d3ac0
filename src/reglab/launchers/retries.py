"""Retry policy: how often a group of jobs whose worker was killed is run again."""

from collections import Counter
from collections.abc import Callable

from reglab.launchers.compose import JobGroup

_KILLED, _PREEMPTED = 1, 3  # attempts in a row that may make no progress


class Attempts:
    """Counts interrupted attempts of each group, and those without progress.

    Args:
        checkpoint_progress: Returns a number that grows with a group's checkpoint.
        max_retries: How often a job is retried; None for as long as it makes progress.
    """

    def __init__(self, checkpoint_progress: Callable[[JobGroup], int], max_retries: int | None = None) -> None:
        self._checkpoint_progress, self._max_retries = checkpoint_progress, max_retries
        self._furthest: dict[tuple[int, ...], int] = {}
        self._stalled: dict[tuple[int, ...], int] = {}
        self._interruptions: Counter[int] = Counter()

    def allow(self, group: JobGroup, preempted: bool) -> bool:
        """Count an interrupted attempt, and tell whether the group may be retried.

        Args:
            group: The group.
            preempted: Whether its worker was terminated by request; otherwise it was killed.
        """
        reached = self._checkpoint_progress(group)
        progressed = reached > self._furthest.get(group.jobs, 0)
        self._furthest[group.jobs] = max(reached, self._furthest.get(group.jobs, 0))
        self._stalled[group.jobs] = 0 if progressed else self._stalled.get(group.jobs, 0) + 1
        may_stall = self._stalled[group.jobs] <= (_PREEMPTED if preempted else _KILLED)
        if self._max_retries is None:
            return may_stall
        self._interruptions.update(group.jobs)
        # A pack that is killed twice without progress is halved, which may be enough.
        return max(self._interruptions[job] for job in group.jobs) <= self._max_retries and (
            may_stall or preempted or len(group.jobs) == 1
        )

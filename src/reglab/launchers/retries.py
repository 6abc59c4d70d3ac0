"""How often an order was tried, and whether trying it once more is worth it."""

from collections import Counter
from collections.abc import Callable

from reglab.launchers.compose import Order

_KILLED, _PREEMPTED = 1, 3  # attempts in a row that may get no further: memory runs out again, preemption may not


class Attempts:
    """Counts the attempts at each order that were cut short, and those that got no further than the ones before.

    reached: how far the checkpoint of an order is, a number that grows. most: how often a job may go on, wherever it
    is; None for as long as it gets further.
    """

    def __init__(self, reached: Callable[[Order], int], most: int | None = None) -> None:
        self._reached, self._most = reached, most
        self._furthest: dict[tuple[int, ...], int] = {}
        self._idle: dict[tuple[int, ...], int] = {}
        self._cut: Counter[int] = Counter()

    def allow(self, order: Order, preempted: bool) -> bool:
        """Take note that an attempt at ``order`` was cut short, and tell whether another may go on from its checkpoint.

        preempted: its worker was asked to end, otherwise it was killed.
        """
        reached = self._reached(order)
        further = reached > self._furthest.get(order.jobs, 0)
        self._furthest[order.jobs] = max(reached, self._furthest.get(order.jobs, 0))
        self._idle[order.jobs] = 0 if further else self._idle.get(order.jobs, 0) + 1
        idle = self._idle[order.jobs] <= (_PREEMPTED if preempted else _KILLED)
        if self._most is None:
            return idle
        self._cut.update(order.jobs)
        # A pack that is killed twice at one place is halved, which may be all that it needs.
        return max(self._cut[job] for job in order.jobs) <= self._most and (idle or preempted or len(order.jobs) == 1)

"""How often an order was tried, and whether trying it once more is worth it."""

from collections.abc import Callable

from reglab.sweeps.compose import Order

_KILLED, _PREEMPTED = 1, 3  # attempts in a row that may get no further: memory runs out again, preemption may not


class Attempts:
    """Counts the attempts at each order that got no further than those before.

    reached: how far the checkpoint of an order is, a number that grows.
    """

    def __init__(self, reached: Callable[[Order], int]) -> None:
        self._reached = reached
        self._furthest: dict[tuple[int, ...], int] = {}
        self._idle: dict[tuple[int, ...], int] = {}

    def allow(self, order: Order, preempted: bool) -> bool:
        """Take note that an attempt at ``order`` was cut short, and tell whether another may go on from its checkpoint.

        preempted: its worker was asked to end, otherwise it was killed.
        """
        reached = self._reached(order)
        further = reached > self._furthest.get(order.jobs, 0)
        self._furthest[order.jobs] = max(reached, self._furthest.get(order.jobs, 0))
        self._idle[order.jobs] = 0 if further else self._idle.get(order.jobs, 0) + 1
        return self._idle[order.jobs] <= (_PREEMPTED if preempted else _KILLED)

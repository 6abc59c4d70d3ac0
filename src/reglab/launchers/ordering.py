"""The order of jobs that start from another's weights: which waits for which, and packs cut to fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reglab.launchers.compose import AFTER, JOB, Order
from reglab.launchers.packing import Plan

_SIDE_BY_SIDE = "a path trains its jobs one after the other; with sweep.seeds=8, eight paths train side by side"


def awaited(jobs: Mapping[int, Sequence[str]]) -> dict[int, int]:
    """Return, for each job that must wait for another of these, which one. jobs: their overrides, by launch number."""
    launched = {_told(overrides, JOB): number for number, overrides in jobs.items()}
    launched.pop(None, None)
    after = {number: _told(overrides, AFTER) for number, overrides in jobs.items()}
    return {number: launched[other] for number, other in after.items() if other is not None and other in launched}


def _told(overrides: Sequence[str], key: str) -> int | None:
    return next((int(each.removeprefix(key)) for each in overrides if each.startswith(key)), None)


def in_turn(orders: Sequence[Order], before: Mapping[int, int]) -> list[Order]:
    """Return the orders, each to begin when those jobs have ended that its own start from. before: see ``awaited``."""
    return [
        replace(order, after=tuple(sorted({before[job] for job in order.jobs if job in before}))) for order in orders
    ]


def levels(planned: Plan, before: Mapping[int, int]) -> list[Plan]:
    """Return a plan for each place on the paths: the first jobs of all, then the second ones, ...; reasons excepted."""
    places: dict[int, int] = {}
    for job in [*(job for pack in planned.packs for job in pack), *planned.alone]:
        _place(job, before, places)
    cut: list[tuple[list[tuple[int, ...]], list[int]]] = [([], []) for _ in range(max(places.values(), default=0) + 1)]
    for group in [*planned.packs, *((job,) for job in planned.alone)]:
        for place in sorted({places[job] for job in group}):
            part = tuple(job for job in group if places[job] == place)
            packs, alone = cut[place]
            if len(part) > 1:
                packs.append(part)
            else:
                alone.extend(part)
    return [Plan(tuple(packs), tuple(sorted(alone)), {}) for packs, alone in cut]


def _place(job: int, before: Mapping[int, int], places: dict[int, int]) -> int:
    back = [job]
    while back[-1] in before and back[-1] not in places:
        back.append(before[back[-1]])
    place = places.get(back[-1], 0)
    for further, each in enumerate(reversed(back)):
        places.setdefault(each, place + further)
    return places[job]


def joined(parts: Sequence[Plan], planned: Plan) -> Plan:
    """Return the plan of all places on the paths together, and tell why jobs of ``planned``'s packs train alone."""
    packs = tuple(pack for part in parts for pack in part.packs)
    alone = tuple(sorted(job for part in parts for job in part.alone))
    apart = tuple(job for job in alone if job not in planned.alone)
    reasons = {**planned.reasons, **({_SIDE_BY_SIDE: apart} if apart else {})}
    return Plan(packs, alone, reasons)

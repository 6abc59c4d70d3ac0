"""Dependencies between jobs of a warm-started path, and packs split by depth on the path."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reglab.config.job_request import JobRequest
from reglab.launchers.compose import JobGroup
from reglab.launchers.packing import Plan

_ONE_AFTER_ANOTHER = "a path trains its jobs one after the other; with sweep.seeds=8, eight paths train side by side"


def dependencies(requests: Sequence[JobRequest]) -> dict[int, int]:
    """Return, for each job that starts from another one's weights, the number of that job.

    Args:
        requests: Of the jobs; a job that is not among them is waited for by none.
    """
    launched = {request.number for request in requests}
    return {
        request.number: request.start.after
        for request in requests
        if request.start is not None and request.start.after in launched
    }


def with_dependencies(groups: Sequence[JobGroup], dependency_of: Mapping[int, int]) -> list[JobGroup]:
    """Return the groups with ``after`` set: the jobs that each group waits for.

    Args:
        groups: Groups of jobs.
        dependency_of: As ``dependencies`` returns it.
    """
    return [
        replace(group, after=tuple(sorted({dependency_of[job] for job in group.jobs if job in dependency_of})))
        for group in groups
    ]


def levels(planned: Plan, dependency_of: Mapping[int, int]) -> list[Plan]:
    """Return a plan for each depth on the paths: first jobs, second jobs, ...; without reasons.

    Args:
        planned: The plan that ignores dependencies.
        dependency_of: As ``dependencies`` returns it.
    """
    depths: dict[int, int] = {}
    for job in [*(job for pack in planned.packs for job in pack), *planned.solo]:
        _depth(job, dependency_of, depths)
    plans: list[tuple[list[tuple[int, ...]], list[int]]] = [
        ([], []) for _ in range(max(depths.values(), default=0) + 1)
    ]
    for group in [*planned.packs, *((job,) for job in planned.solo)]:
        for depth in sorted({depths[job] for job in group}):
            jobs = tuple(job for job in group if depths[job] == depth)
            packs, solo = plans[depth]
            if len(jobs) > 1:
                packs.append(jobs)
            else:
                solo.extend(jobs)
    return [Plan(tuple(packs), tuple(sorted(solo)), {}) for packs, solo in plans]


def _depth(job: int, dependency_of: Mapping[int, int], depths: dict[int, int]) -> int:
    chain = [job]
    while chain[-1] in dependency_of and chain[-1] not in depths:
        chain.append(dependency_of[chain[-1]])
    depth = depths.get(chain[-1], 0)
    for step, each in enumerate(reversed(chain)):
        depths.setdefault(each, depth + step)
    return depths[job]


def merge_levels(plans: Sequence[Plan], planned: Plan) -> Plan:
    """Return the plan of all depths together, with the reason why jobs of packs train alone.

    Args:
        plans: As ``levels`` returns them.
        planned: The plan that ignores dependencies.
    """
    packs = tuple(pack for plan in plans for pack in plan.packs)
    solo = tuple(sorted(job for plan in plans for job in plan.solo))
    separated = tuple(job for job in solo if job not in planned.solo)
    reasons = {**planned.reasons, **({_ONE_AFTER_ANOTHER: separated} if separated else {})}
    return Plan(packs, solo, reasons)

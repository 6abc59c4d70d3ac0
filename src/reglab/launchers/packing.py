"""Plan packs: group jobs whose configs differ only in numbers that change no shape."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reglab.analysis.formatting import plural
from reglab.config.lightning_loop import uses_lightning_loop

MIN_MEMBERS = 8  # packs are not split into smaller ones for an idle worker
MAX_MEMBERS = 1024

# Numbers here may differ between the members of a pack.
_FREE_KEYS = {
    *("seed", "init_seed", "trainer.gradient_clip_norm"),
    *("data.split_seed", "data.label_noise", "data.fold", "data.replica"),
}
_FREE_GROUPS = ("regularizer.", "optimizer.", "scheduler.")
_NOT_THE_JOB = ("name", "sweep", "hydra")
# Values that the fused engine supports; a job with others trains alone.
_TRAINER: dict[str, tuple[Any, ...]] = {
    "devices": (1, "1", "auto"),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "accumulate_grad_batches": (1,),
    "compile": (False, None),
    "activation_checkpointing": (False, None),
    "polish_steps": (0, None),
    "detect_anomaly": (False, None),
    "profiler": (None,),
    "precision": ("32-true", "64-true", "32", "64", 32, 64),
}


@dataclass(frozen=True)
class Plan:
    """Job numbers, grouped.

    Attributes:
        packs: Of at least two jobs.
        solo: Jobs that train alone.
        reasons: Reason -> jobs that train alone for it; jobs without a partner have none.
    """

    packs: tuple[tuple[int, ...], ...]
    solo: tuple[int, ...]
    reasons: Mapping[str, tuple[int, ...]]

    def lines(self) -> list[str]:
        """Return a line for each reason why jobs train alone."""
        if not self.packs and not self.reasons and len(self.solo) > 1:
            return ["nothing to fuse: no two jobs differ only in numbers"]
        return [separation_line(reason, [1] * len(jobs)) for reason, jobs in self.reasons.items()]


def plan(configs: Mapping[int, Mapping[str, Any]], common_reason: str | None = None) -> Plan:
    """Return which jobs may train as one pack.

    Args:
        configs: Resolved configs as plain containers, by job number.
        common_reason: A reason why all of them train alone, if there is one.
    """
    groups: dict[object, list[int]] = {}
    solo: list[int] = []
    reasons: dict[str, list[int]] = {}
    for job, config in configs.items():
        reason = common_reason or solo_reason(config)
        if reason is None:
            groups.setdefault(structure(config), []).append(job)
        else:
            solo.append(job)
            reasons.setdefault(reason, []).append(job)
    packs = tuple(tuple(jobs) for jobs in groups.values() if len(jobs) > 1)
    solo += [jobs[0] for jobs in groups.values() if len(jobs) == 1]
    return Plan(packs, tuple(sorted(solo)), {reason: tuple(jobs) for reason, jobs in reasons.items()})


def split(planned: Plan, workers: int, cap: int | None = None, min_members: int = MIN_MEMBERS) -> list[tuple[int, ...]]:
    """Return groups, the largest first: packs, then the jobs that train alone.

    Where there are fewer groups than workers, packs are split evenly.

    Args:
        planned: The plan.
        workers: The number of worker processes.
        cap: The largest size of a pack.
        min_members: The smallest size that a pack is split into for an idle worker.
    """
    largest = cap or MAX_MEMBERS
    parts = [-(-len(pack) // largest) for pack in planned.packs]
    while sum(parts) + len(planned.solo) < workers:
        divisible = [i for i, pack in enumerate(planned.packs) if len(pack) // (parts[i] + 1) >= min_members]
        if not divisible:
            break
        parts[max(divisible, key=lambda i: (len(planned.packs[i]) / parts[i], -parts[i]))] += 1
    packs = [part for pack, count in zip(planned.packs, parts, strict=True) for part in split_evenly(pack, count)]
    return sorted([*packs, *((job,) for job in planned.solo)], key=len, reverse=True)


def split_evenly(jobs: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Return ``jobs`` in ``parts`` contiguous parts whose sizes differ by at most one."""
    ends = [len(jobs) * part // parts for part in range(parts + 1)]
    return [tuple(jobs[low:high]) for low, high in pairwise(ends)]


def regroup(
    jobs: Sequence[int], positions: Sequence[Sequence[int]], done: Collection[int] = ()
) -> list[tuple[int, ...]]:
    """Return the groups into which a pack is split.

    Jobs in no group are alone. Every group is smaller than the pack, so that a pack that failed is
    not tried again.

    Args:
        jobs: Of the pack.
        positions: Indices into ``jobs``, of each group.
        done: Jobs that have ended.
    """
    groups = [[jobs[position] for position in group] for group in positions if len(group) < len(jobs)]
    grouped = {job for group in groups for job in group}
    groups += [[job] for job in jobs if job not in grouped]
    unfinished = [tuple(job for job in group if job not in done) for group in groups]
    return [group for group in unfinished if group]


def solo_reason(config: Mapping[str, Any]) -> str | None:
    """Return why a job cannot train in a pack, in one line; None if it can."""
    if uses_lightning_loop(config):
        return "a LightningModule trains by its own steps (model=lightning)"
    if config.get("callbacks"):
        return "callbacks watch one job at a time"
    trainer = config.get("trainer") or {}
    for key, allowed in _TRAINER.items():
        if key in trainer and trainer[key] not in allowed:
            return f"trainer.{key}={trainer[key]}, but packs train with {allowed[0]}"
    return None


def structure(config: Mapping[str, Any]) -> object:
    """Return what members of a pack have in common, hashable: the config, free numbers masked.

    None instead of a number is another structure, and so is another order of the regularizers,
    which is their nesting.
    """
    job = {key: value for key, value in config.items() if key not in _NOT_THE_JOB}
    order = tuple(config.get("regularizer") or {})
    return order, frozenset(_leaves(job, ""))


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the free numbers that differ between members of a pack: path -> value of each."""
    leaves = [dict(_numbers(config, "")) for config in configs]
    return {
        path: [numbers[path] for numbers in leaves]
        for path in (leaves[0] if leaves else {})
        if len({numbers.get(path) for numbers in leaves}) > 1
    }


def separation_line(reason: str, sizes: Sequence[int]) -> str:
    """Return a line that tells how jobs train instead of in one pack.

    Args:
        reason: Why.
        sizes: Of the groups.
    """
    packs = sum(size > 1 for size in sizes)
    solo = len(sizes) - packs
    ways = [f"in {plural(packs, 'pack')}"] if packs else []
    ways += [] if not solo else [f"{solo} alone"] if packs else ["one by one" if solo > 1 else "alone"]
    jobs = sum(sizes)
    return f"{plural(jobs, 'job')} {'train' if jobs > 1 else 'trains'} {' and '.join(ways)}: {reason}"


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    if isinstance(node, (Mapping, list, tuple)):
        inner = list(_items(node))
        for key, value in inner:
            yield from _leaves(value, f"{path}.{key}" if path else key)
        if not inner:
            yield path, "empty", type(node).__name__
    elif _is_free(path) and _is_number(node):
        yield path, "number", None
    else:
        yield path, "flag" if isinstance(node, bool) else "value", node  # True == 1, but is no number


def _numbers(node: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(node, (Mapping, list, tuple)):
        for key, value in _items(node):
            yield from _numbers(value, f"{path}.{key}" if path else key)
    elif _is_free(path) and _is_number(node):
        yield path, node


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    return ((str(key), value) for key, value in pairs)


def _is_free(path: str) -> bool:
    return path in _FREE_KEYS or path.startswith(_FREE_GROUPS)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

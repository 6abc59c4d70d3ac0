"""``sweep.dry=true``: print the packs and an estimate of time, memory and disk; train nothing."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from omegaconf import DictConfig

from reglab.analysis.formatting import compact, plural, shortened
from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import COMPILE_SECONDS, PackSettings
from reglab.config.trust import trust, trusted_packages
from reglab.core.errors import Unfused, UserError
from reglab.launchers import task as tasks
from reglab.launchers.compose import Composer, job_config
from reglab.launchers.dependencies import dependencies, levels
from reglab.launchers.devices import gpu_slots, visible_gpus
from reglab.launchers.display_state import pack_label
from reglab.launchers.fused import check_compile, check_pack_size, check_seconds, plan_jobs
from reglab.launchers.job_labels import job_labels
from reglab.launchers.local import count_workers, start_server, worker_environment
from reglab.launchers.packing import Plan, differing, regroup, separation_line, split, structure
from reglab.launchers.request_launcher import Capabilities
from reglab.launchers.worker import limit_threads
from reglab.processes.child_processes import ChildProcesses
from reglab.processes.parent_watch import exit_with_parent

_WIDTH = 110
_MAX_MEASURED = 12  # kinds of groups; further ones count as the mean of these


@dataclass(frozen=True)
class Cost:
    """What a group of jobs costs.

    Attributes:
        seconds: Of training.
        memory: Bytes.
        disk: Bytes.
        measures: Seconds of ``seconds`` that each measure takes.
    """

    seconds: float
    memory: float
    disk: float
    measures: Mapping[str, float] = field(default_factory=dict)


TryPack = Callable[[Sequence[DictConfig], PackSettings], Any]


def dry_run(requests: Sequence[JobRequest], composer: Composer, config: DictConfig, can: Capabilities) -> None:
    """Print the jobs, the packs, who trains alone and why, and the estimated cost.

    The costs come from a few training steps of each kind of group, in a process of its own.

    Args:
        requests: Of the jobs.
        composer: Of the sweep.
        config: Of the whole sweep, with Hydra's node.
        can: Of the launcher.
    """
    request_of = {request.number: request for request in requests}
    launcher = config.hydra.launcher
    threads = int(launcher.get("threads") or 1)
    workers = count_workers(launcher.get("workers"), threads)
    if can.assigns_devices:
        trainers = [composer.resolved(request.overrides).get("trainer") or {} for request in requests]
        workers = len(gpu_slots(trainers, visible_gpus(launcher.get("gpus")), launcher.get("workers"), threads))
    limit = check_seconds(launcher.get("compile_seconds", COMPILE_SECONDS))
    settings = PackSettings(check_compile(launcher.get("compile")), threads, bool(launcher.get("always")), limit)
    planned = plan_jobs(requests, composer, config) if can.fuses else Plan((), tuple(request_of), {})
    estimator = _CostEstimator(request_of, composer, settings, list(launcher.get("preload") or []))
    cap = check_pack_size(launcher.get("pack"))
    levelled = [split(part, workers, cap) for part in levels(planned, dependencies(requests))]
    groups, costs = estimator.measure([group for part in levelled for group in part])
    labels = job_labels(requests)
    lines = [f"{plural(len(requests), 'job')} on {plural(workers, 'worker')}, nothing is started:"]
    lines += [
        f"  pack of {len(group)}: {shortened(_pack_contents([request_of[job] for job in group], composer), _WIDTH)}"
        for group in groups
        if len(group) > 1
    ]
    solo_by_block: dict[str, list[str]] = {}
    for group in groups:
        if len(group) == 1:
            solo_by_block.setdefault(request_of[group[0]].block, []).append(labels[group[0]])
    lines += [
        f"  alone: {shortened(pack_label(names) if len(names) > 1 else names[0], _WIDTH)}"
        for names in solo_by_block.values()
    ]
    lines += planned.lines() if can.fuses else []
    lines += [separation_line(reason, sizes) for reason, sizes in estimator.regrouped.items()]
    print("\n".join([*lines, *estimate(costs, workers), *measure_lines(costs), *sorted(estimator.problems)]))


def estimate(costs: Sequence[Cost | None], workers: int) -> list[str]:
    """Return the estimate in a line, for groups in the order in which workers take them.

    Args:
        costs: Of each group; None where not measured, which counts as the mean of the others.
        workers: The number of workers.

    Returns:
        One line; empty if no cost is known.
    """
    known = [cost for cost in costs if cost is not None]
    if not known:
        return []
    mean = Cost(*(sum(getattr(cost, key) for cost in known) / len(known) for key in ("seconds", "memory", "disk")))
    whole = [cost or mean for cost in costs]
    memory = sum(sorted((cost.memory for cost in whole), reverse=True)[:workers])
    minutes = makespan([cost.seconds for cost in whole], workers) / 60
    disk = sum(cost.disk for cost in whole)
    return [
        f"About {minutes:.1f} minutes, {_size(memory)} of memory at a time, {_size(disk)} on disk "
        "(from a few steps of each kind of job, as if workers did not slow each other down)."
    ]


def measure_lines(costs: Sequence[Cost | None]) -> list[str]:
    """Return what share of the work each measure takes, in a line, the dearest first.

    Args:
        costs: Of each group; None where not measured.

    Returns:
        One line; empty if no cost is known.
    """
    known = [cost for cost in costs if cost is not None and cost.measures]
    total = sum(cost.seconds for cost in known)
    if not total:
        return []
    taken: dict[str, float] = {}
    for cost in known:
        for name, seconds in cost.measures.items():
            taken[name] = taken.get(name, 0.0) + seconds
    shares = sorted(taken.items(), key=lambda item: -item[1])
    return [f"Of that, measuring takes: {', '.join(f'{name} {seconds / total:.1%}' for name, seconds in shares)}."]


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return the seconds until all durations are over, each on the next free worker."""
    free = [0.0] * workers
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


class _CostEstimator:
    """Measures one group of each kind: equal structure and size."""

    def __init__(
        self, requests: Mapping[int, JobRequest], composer: Composer, settings: PackSettings, preload: list[str]
    ):
        self._requests, self._composer, self._settings, self._preload = requests, composer, settings, preload
        self.problems: set[str] = set()
        self.regrouped: dict[str, list[int]] = {}

    def measure(self, groups: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[Cost | None]]:
        """Return the groups as they would be run after packs were split, and the cost of each."""
        done: list[tuple[int, ...]] = []
        costs: list[Cost | None] = []
        known: dict[object, Cost | Unfused | None] = {}
        waiting = list(groups)
        while waiting:
            group = waiting.pop(0)
            signature = (len(group), structure(self._composer.resolved(self._requests[group[0]].overrides)))
            if signature not in known:
                known[signature] = self._measure_group(group) if len(known) < _MAX_MEASURED else None
            cost = known[signature]
            if isinstance(cost, Unfused):
                groups = regroup(group, cost.groups)
                self.regrouped.setdefault(cost.reason, []).extend(map(len, groups))
                waiting = sorted([*waiting, *groups], key=len, reverse=True)
            else:
                done.append(group)
                costs.append(cost)
        return done, costs

    def _measure_group(self, group: Sequence[int]) -> Cost | Unfused | None:
        configs = [job_config(self._composer, self._requests[job], lean=True) for job in group]
        result = _measure_in_process(configs, self._settings, self._preload)
        if isinstance(result, str):
            self.problems.add(f"No estimate for some jobs: {result}")
            return None
        return result


def _measure_in_process(
    configs: Sequence[DictConfig], settings: PackSettings, preload: list[str]
) -> Cost | Unfused | str:
    context = start_server(preload, settings.threads)
    with ChildProcesses() as children:
        with worker_environment(settings.threads):
            child = children.start(
                0, context, _measure, configs, settings, tasks.try_pack, trusted_packages(), daemon=True
            )
        try:
            result: Cost | Unfused | str = child.pipe.recv()
            return result
        except EOFError:
            child.process.join()
            return f"the process that measured it ended with exit code {child.process.exitcode}"


def _measure(
    pipe: Connection,
    configs: Sequence[DictConfig],
    settings: PackSettings,
    try_pack: TryPack,
    trusted: Sequence[str],
) -> None:
    exit_with_parent(grace=0)
    trust(*trusted)
    limit_threads(settings.threads)
    try:
        pipe.send(_cost(try_pack(configs, settings), configs))
    except Unfused as error:
        pipe.send(error)
    except UserError as error:
        pipe.send(str(error))
    except Exception as error:  # noqa: BLE001 - an estimate is no reason to fail
        pipe.send(f"{type(error).__name__}: {error}")


def _cost(measured: Any, configs: Sequence[DictConfig]) -> Cost:
    """Return the cost of a group from the measured seconds of start, step and epoch."""
    step = measured.step_seconds if len(configs) > 1 else measured.solo_step_seconds
    seconds = measured.start_seconds + measured.steps * step + measured.epochs * measured.epoch_seconds
    return Cost(float(seconds), float(measured.bytes), float(measured.disk_bytes), dict(measured.measures))


def _pack_contents(requests: Sequence[JobRequest], composer: Composer) -> str:
    """Return the blocks of a pack, and the range of each number that its members vary."""
    numbers = differing([composer.resolved(request.overrides) for request in requests])
    ranges = [f"{path.removeprefix('regularizer.')} {_range(values)}" for path, values in numbers.items()]
    return ", ".join([*dict.fromkeys(request.block for request in requests), *ranges])


def _range(values: Sequence[float]) -> str:
    return f"{compact(min(values))} ... {compact(max(values))}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

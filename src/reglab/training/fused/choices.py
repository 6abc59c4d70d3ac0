"""What is chosen by measuring: whether jobs train fused at all, compiled or not, and how convolutions are computed."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from reglab.errors import Unfused
from reglab.measures import Task, example_losses
from reglab.regularizers import Batch
from reglab.training.fused import convolution
from reglab.training.fused.graph import Graph
from reglab.training.fused.member import Member
from reglab.training.fused.pack import Pack
from reglab.training.recipe import Recipe

WORTH_COMPILING = 60.0  # seconds of eager steps from which on compiling (10-40 s the first time) pays
_SLOWER = 1.05  # a pack may cost this share of its members' solo steps at most
_SHARE_OF_MEMORY = 0.8
_REPEATS = 3


@dataclass(frozen=True)
class Choices:
    """What was chosen and measured. step: seconds of one step of the pack. solo: of one job's alone. peak: bytes."""

    compiled: bool
    lowering: dict[str, str]
    step: float
    solo: float
    peak: int


def choose(pack: Pack, compile_: bool | None) -> Choices:
    """Measure a few steps of ``pack``, which stays as it is, and return what to do.

    compile_: None decides by the steps to come. Raises Unfused where the memory does not hold the pack (in halves), and
    where a job alone fills the machine, so that fusing would be slower.
    """
    rows = next(iter(pack.loader))[0]
    lowering = _lowering(pack, rows)
    pack.choose(False, lowering)
    graph = pack.graph(rows, compiled=False)
    peak = graph.peak + 3 * pack.stack.bytes()
    if peak > _SHARE_OF_MEMORY * free_memory(pack.stack.device):
        raise Unfused(f"{len(pack)} members need {peak / 1e9:.1f} GB of memory", halves(len(pack)))
    eager, solo = _compare(pack, graph, rows)
    first = pack.experiments[0]
    steps = first.recipe.epochs * pack.loader.per_epoch
    compiled = eager * steps > WORTH_COMPILING if compile_ is None else compile_
    step = eager
    if compiled and eager > solo * len(pack):
        step = seconds(_on_a_copy(pack, pack.graph(rows, compiled=True), rows), pack.stack.device)
    if step > _SLOWER * solo * len(pack):
        raise Unfused(
            f"one job fills the machine: a step takes {step / len(pack) * 1e3:.1f} ms a member fused, "
            f"{solo * 1e3:.1f} ms alone"
        )
    return Choices(compiled, lowering, step, solo, peak)


def halves(members: int) -> list[tuple[int, ...]]:
    """Return the positions of a pack's members in two groups."""
    return [tuple(range(members // 2)), tuple(range(members // 2, members))]


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be had on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _lowering(pack: Pack, rows: Tensor) -> dict[str, str]:
    inputs = pack.pool.batch(rows[0] if rows.dim() > 1 else rows)[0]
    return convolution.choose(pack.base.model, len(pack), tuple(inputs.shape), pack.stack.device, pack.dtype)


def _compare(pack: Pack, graph: Graph, rows: Tensor) -> tuple[float, float]:
    """Return the seconds of a fused step and of a solo step, measured in turn."""
    fused, alone = _on_a_copy(pack, graph, rows), _alone(pack, rows)
    device = pack.stack.device
    pairs = [(seconds(fused, device), seconds(alone, device, 3)) for _ in range(_REPEATS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _on_a_copy(pack: Pack, graph: Graph, rows: Tensor) -> Callable[[], object]:
    copied = pack.stack.clone()
    rows = rows.to(copied.device)
    return lambda: graph(copied.weights, copied.buffers, copied.slots, copied.numbers, copied.shared, rows)


def solo_step(member: Member, task: Task, recipe: Recipe, batch: Batch) -> Callable[[], object]:
    """Return a bare training step of one job, which changes ``member``: less than what ``Solo`` does."""
    cocktail = member.cocktail
    objective = cocktail.objective(lambda outputs, wanted: example_losses(outputs, wanted, task))
    own = {name: weight for name, weight in member.model.named_parameters() if weight.requires_grad}
    optimizer = recipe.build_optimizer(list(own.values()))
    gradients = 2 if cocktail.wraps_gradient else 1
    cocktail.keys.index = batch.index

    def step() -> None:
        for _ in range(gradients):
            optimizer.zero_grad()
            cocktail.keys.begin()
            outcome = objective(member.model, batch)
            for name, penalty in cocktail.penalties(own).items():
                outcome = outcome.plus(name, penalty)
            torch.autograd.backward(outcome.loss)
        optimizer.step()

    return step


def _alone(pack: Pack, rows: Tensor) -> Callable[[], object]:
    """Return a step of the pack's first job on a copy, its convolutions as torch computes them."""
    member = copy.deepcopy(pack.base)
    convolution.lower(member.model, {})
    inputs, targets, weights, index = pack.pool.batch(rows[0] if rows.dim() > 1 else rows)
    one = torch.ones((), dtype=pack.dtype, device=inputs.device)
    batch = Batch(inputs, [(one if weights is None else weights, targets)], index)
    return solo_step(member, pack.task, pack.experiments[0].recipe, batch)


def seconds(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the median time of one call, after one that is not counted."""
    run()
    return statistics.median(_timed(run, device, calls) for _ in range(_REPEATS))


def _timed(run: Callable[[], object], device: torch.device, calls: int) -> float:
    _wait(device)
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    _wait(device)
    return (time.perf_counter() - begin) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Autotuning of a pack: fused or solo, compiled or eager, and the lowering of each convolution."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reglab.core.errors import Unfused
from reglab.measures import example_losses
from reglab.regularizers import Batch
from reglab.tasks import Task
from reglab.training.fused import convolution
from reglab.training.fused.benchmark import Benchmark
from reglab.training.fused.graph import Graph
from reglab.training.fused.member import Member
from reglab.training.fused.pack import Pack, arguments
from reglab.training.recipe import Recipe

WORTH_COMPILING = 30.0  # seconds of steps, not compiled, from which on it pays
COMPILING = 25.0  # seconds with an empty cache; 8 where Inductor finds what it compiled before
_LOADING = 2.5  # seconds that a pack waits for what was compiled beside it
_COMPILED = 0.4  # of a step's time is left
_WORTH_TWICE = 15.0  # the same for a last batch of another size: the second compilation takes half the time
_SLOWER = 1.05  # a pack may take this share of its members' solo time at most
# What a step is taken to cost before anything is traced: seconds of its operations, and for each
# byte of the members' weights, which are passed over some thirty times. Measured on a CPU; a GPU
# has a hundred times its bandwidth.
_STEP, _CPU_BYTE, _GPU_BYTE = 2e-3, 2.5e-9, 2.5e-11
_START = 2.5  # seconds to trace step and measurements, before the first step
JOB_OVERHEAD = 0.4  # seconds that a job alone takes before and after its steps
_SHARE_OF_MEMORY = 0.8
_BENCHMARK = Benchmark()


@dataclass(frozen=True)
class Choices:
    """What was chosen and measured.

    Args:
        step: Seconds of one step of the pack, on average.
        solo: Of one job's alone.
        start: Seconds before the first step.
        peak: bytes.
        ready: Whether it is compiled by now; otherwise it will be beside the training.
    """

    compiled: bool
    ragged: bool
    lowering: dict[str, str]
    step: float
    solo: float
    start: float
    peak: int
    ready: bool = False


def choose(pack: Pack, compile_: bool | None, always: bool = False, benchmark: Benchmark = _BENCHMARK) -> Choices:
    """Time a few steps of ``pack``, without changing it, and return the choices.

    Args:
        pack: Whose steps are timed.
        compile_: None decides by the steps to come.
        always: Fuse also what is slower than the jobs one by one.
        benchmark: Measures seconds and memory.

    Raises:
        Unfused: Where the memory does not hold the pack (in halves) and, unless ``always``, where
            the jobs are done sooner one by one.
    """
    rows = next(iter(pack.loader))[0]
    device, members = pack.stack.device, len(pack)
    epochs, steps = pack.experiments[0].recipe.epochs, pack.loader.total
    solo_run = _solo_step(pack, rows)
    solo = benchmark.seconds(solo_run, device, 3)
    together, alone = _reading(pack, rows, benchmark)
    if not (compile_ or always) and steps * members * solo < WORTH_COMPILING:  # too little work for a long look
        fused = _START + steps * max(_guess(pack), together)
        _refuse_if_slower(members, fused, members * (JOB_OVERHEAD + steps * max(solo, alone)))
    lowering = _lowering(pack, rows)
    pack.choose(False, lowering)
    graph = pack.graph(rows)
    peak = graph.peak + 3 * pack.stack.bytes()
    if peak > _SHARE_OF_MEMORY * benchmark.free_memory(device):
        raise Unfused(f"{members} members need {peak / 1e9:.1f} GB of memory", halves(members))
    eager, solo = benchmark.compare(_on_a_copy(pack, graph, rows), solo_run, device)
    compiled = eager * steps > WORTH_COMPILING if compile_ is None else compile_
    ragged = compiled and eager * epochs > _WORTH_TWICE
    step, start, ready = eager, _START, False
    if compiled and eager > solo * members and device.type == "cpu":  # as it is it does not pay, but compiled it may
        pack.choose(True, lowering, ragged)
        pack.compile()
        compiled = ready = pack.compiled
        ragged = pack.ragged
        start += COMPILING
        step = benchmark.seconds(_on_a_copy(pack, graph, rows), device)
    if not always:
        # Without the time that measuring took: it is spent either way.
        _refuse_if_slower(members, steps * max(step, together), members * (JOB_OVERHEAD + steps * max(solo, alone)))
    if compiled and not ready:
        start += COMPILING if compile_ else 0.0
        step = expected(eager, steps, 0.0 if compile_ else COMPILING)
    return Choices(compiled, ragged, lowering, max(step, together), max(solo, alone), start, peak, ready)


def expected(eager: float, steps: int, compiling: float) -> float:
    """Return the mean seconds of a step that takes ``eager`` until ``compiling`` seconds are over,
    and less then.

    Args:
        eager: Seconds of an eager step.
        steps: To be done.
        compiling: Seconds until the compiled step is ready.

    Returns:
        Seconds of a step.
    """
    before = min(steps, compiling / eager)
    loading = _LOADING if before < steps else 0.0
    return (before * eager + loading + (steps - before) * _COMPILED * eager) / steps


def _refuse_if_slower(members: int, fused: float, solo: float) -> None:
    if fused > _SLOWER * solo:
        raise Unfused(
            f"a pack would not be quicker: about {fused:.1f} s for {members} jobs, {solo:.1f} s one by one (they are "
            "few or short, or each fills the machine); hydra.launcher.always=true fuses them all the same"
        )


def _guess(pack: Pack) -> float:
    """Return a rough estimate of an eager step, in seconds."""
    byte = _GPU_BYTE if pack.stack.device.type == "cuda" else _CPU_BYTE
    gradients = 2 if pack.base.cocktail.wraps_gradient else 1
    return gradients * (_STEP + byte * sum(weight.nbytes for weight in pack.stack.weights.values()))


def halves(members: int) -> list[tuple[int, ...]]:
    """Return the positions of a pack's members in two groups."""
    return [tuple(range(members // 2)), tuple(range(members // 2, members))]


def _lowering(pack: Pack, rows: Tensor) -> dict[str, str]:
    inputs = pack.train_rows.batch(rows[0] if rows.dim() > 1 else rows)[0]
    if not inputs.is_floating_point():
        return {}  # tokens: what convolves them, behind an embedding, is too rare to be timed
    return convolution.choose(pack.base.model, len(pack), tuple(inputs.shape), pack.stack.device, pack.dtype)


def _on_a_copy(pack: Pack, graph: Graph, rows: Tensor) -> Callable[[], object]:
    tensors = graph.flat(arguments(pack.stack.clone(), rows.to(pack.stack.device)))
    return lambda: graph.run(tensors)


def _reading(pack: Pack, rows: Tensor, benchmark: Benchmark) -> tuple[float, float]:
    """Return the seconds that reading a step's streamed inputs takes, of the pack and of one of its
    jobs: beside the steps, and reckoned as by one worker. 0 where they are in memory.
    """
    if not pack.train_rows.sources:
        return 0.0, 0.0
    of_one = rows[0] if rows.dim() > 1 else rows
    together, alone = (benchmark.seconds(partial(pack.window.read, each), pack.stack.device) for each in (rows, of_one))
    return together, alone


def solo_step(member: Member, task: Task | str, recipe: Recipe, batch: Batch) -> Callable[[], object]:
    """Return a bare training step of one job, which changes ``member``: less than what ``Solo``
    does.

    Args:
        member: Changed by each step.
        task: Which decides the loss.
        recipe: With the optimizer.
        batch: The rows of every step.
    """
    cocktail = member.cocktail
    objective = cocktail.objective(lambda outputs, wanted: example_losses(outputs, wanted, task))
    weights = {name: weight for name, weight in member.model.named_parameters() if weight.requires_grad}
    optimizer = recipe.build_optimizer(member.model, weights)
    gradients = 2 if cocktail.wraps_gradient else 1
    cocktail.keys.index = batch.index

    def step() -> None:
        for _ in range(gradients):
            optimizer.zero_grad()
            cocktail.keys.begin()
            outcome = objective(member.model, batch)
            for name, penalty in cocktail.penalties(weights).items():
                outcome = outcome.plus(name, penalty)
            torch.autograd.backward(outcome.loss)
        optimizer.step()

    return step


def _solo_step(pack: Pack, rows: Tensor) -> Callable[[], object]:
    """Return a step of the pack's first job on a copy, its convolutions as torch computes them."""
    member = copy.deepcopy(pack.base)
    convolution.lower(member.model, {})
    inputs, targets, weights, index = pack.train_rows.batch(rows[0] if rows.dim() > 1 else rows)
    one = torch.ones((), dtype=pack.dtype, device=inputs.device)
    batch = Batch(inputs, [(one if weights is None else weights, targets)], index)
    return solo_step(member, pack.task, pack.experiments[0].recipe, batch)

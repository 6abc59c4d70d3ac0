"""The parts of gpu_check.py: each returns rows (what, figure, remark) of one question to a device."""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from convolutions import CASES as IMAGES
from convolutions import measure as convolutions_of
from devices_cases import DEVICE, NOWHERE, bare, cases, finished, seconds_a_step, store, tracked
from devices_syncs import HARMLESS, WAITS, waits_of, warned
from fused import pack_steps
from fused_cases import Case, mlp, solo_steps
from omegaconf import OmegaConf
from torch import Tensor

from reglab.config.instantiate import build
from reglab.config.paths import conf_dir
from reglab.measures import MeasureSettings
from reglab.regularizers import L1, Cocktail, Regularizer
from reglab.tracking import open_run
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import member_state
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo
from reglab.training.trainer import build_trainer, quiet_lightning

Row = tuple[str, float | str, str]
MEMBERS = (2, 8, 64, 256, 1024)
_ROUNDS, _STEPS = 5, 20


def regularizers() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml"))


def names(quick: bool) -> list[str]:
    """Return the parts in the order in which they are done: what is asked first comes first."""
    few = ["pack 2", "pack 8"]
    return [part for part in PARTS if not quick or not part.startswith("pack ") or part in few]


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def seconds_of(run: Callable[[int], None], steps: int) -> float:
    begin = finished()
    run(steps)
    return (finished() - begin) / steps


class _Kept(logging.Handler):
    """Makes a row of each warning: of a step that could not be compiled, and runs uncompiled."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.rows: list[Row] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.rows.append(("NOT AS MEANT", record.getMessage(), record.name))


@contextmanager
def fallbacks() -> Iterator[list[Row]]:
    """Give the rows of what reglab warned of inside the context."""
    handler, logger = _Kept(), logging.getLogger("reglab")
    logger.addHandler(handler)
    try:
        yield handler.rows
    finally:
        logger.removeHandler(handler)


def pack(members: int, quick: bool) -> list[Row]:
    """A pack against its members alone.

    Float64 weights after an epoch, and the time of a compiled float32 step.
    """
    case = mlp()
    rows = [_parity(case, members)]
    with quiet_lightning(), fallbacks() as fell:
        fused, solo = pack_steps(case, members, compiled=True), solo_steps(case)
    rows += fell
    steps, rounds = (3, 2) if quick else (_STEPS, _ROUNDS)
    ours, alone = zip(*((seconds_of(fused, steps), seconds_of(solo, steps)) for _ in range(rounds)), strict=True)
    taken = [1e3 * each for each in ours]
    rows.append(("fused step, compiled, ms", spread(taken), f"{members} members, MLP 64-64-10, batch 64, L1 and L2"))
    rows.append(("one solo step, ms", spread([1e3 * each for each in alone]), "eager, under Lightning, 32 a batch"))
    gains = [members * one / all_ for all_, one in zip(ours, alone, strict=True)]
    rows.append(("members trained in the time of one alone", spread(gains), "members x solo step / fused step"))
    if DEVICE.type == "cuda":
        rows.append(("peak memory, MB", torch.cuda.max_memory_allocated() / 2**20, "of torch's allocator"))
    return rows


def _parity(case: Case, members: int) -> Row:
    """Return the largest deviation between first, middle and last member of a pack and the same jobs alone."""
    jobs = [_double(case.experiment(number)) for number in range(members)]
    fused = PackModule(Pack(jobs))
    _fit(jobs[0], fused)
    worst = 0.0
    for place in sorted({0, members // 2, members - 1}):
        alone = _double(case.experiment(place))
        alone.model.double()
        solo = Solo(alone.model, alone.cocktail, alone.data.train, alone.data.task, alone.recipe)
        _fit(alone, solo)
        worst = max(worst, deviation(member_state(fused.pack.stack, place, fused.pack.base), solo.state_dict()))
    return "parity: largest deviation of a weight", worst, "of its tensor's largest; an epoch in float64; law: 1e-8"


def _double(job: Experiment) -> Experiment:
    return replace(job, trainer={**job.trainer, "devices": 1, "precision": "64-true"})


def _fit(job: Experiment, module: Any) -> None:
    with quiet_lightning():
        build_trainer(job, []).fit(module, train_dataloaders=module.loader())


def deviation(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the largest difference between weights of two states, by the largest entry of each."""
    found = 0.0
    for name, value in first.items():
        if name.startswith("model."):
            mine, other = value.double().cpu(), second[name].double().cpu()
            found = max(found, float((mine - other).abs().max() / other.abs().max().clamp(min=1e-300)))
    return found


def half(quick: bool) -> list[Row]:
    """Every regularizer under bf16-mixed against float32.

    What the trained model says of the validation part.
    """
    rows: list[Row] = []
    for name in regularizers()[:2] if quick else regularizers():
        full, low = (_outputs(name, precision) for precision in ("32-true", "bf16-mixed"))
        off = float((full - low).abs().max() / full.abs().max()) * 2**8
        finite = bool(torch.isfinite(low).all())
        rows.append((name, off if finite else "not finite", "in roundings of bfloat16 of the largest output"))
    return rows


def _outputs(name: str, precision: str) -> Tensor:
    job = _small({"precision": precision}, _cocktail(name))
    _trained(job)
    with torch.no_grad():
        return job.model.cpu().float().eval()(job.data.val.inputs)


def _cocktail(name: str) -> Cocktail:
    nodes = OmegaConf.to_container(OmegaConf.load(conf_dir() / "regularizer" / f"{name}.yaml"))
    assert isinstance(nodes, dict)
    members = {str(key): build(node, Regularizer, str(key)) for key, node in nodes.items()}
    return Cocktail(members, 0, "classification")


def _small(trainer: Mapping[str, Any], cocktail: Cocktail) -> Experiment:
    case = mlp()
    accelerator = "gpu" if DEVICE.type == "cuda" else "cpu"
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.5}, batch_size=64, epochs=2)
    settings = {"accelerator": accelerator, "devices": 1, **trainer}
    return Experiment(case.build(), cocktail, case.data, recipe, MeasureSettings(), settings)


def _trained(job: Experiment) -> dict[str, Tensor]:
    """Train, and return the weights of the last checkpoint, which are whole wherever they were trained."""
    with tempfile.TemporaryDirectory() as folder:
        tracker = open_run(NOWHERE, name="check", folder=Path(folder), config={}, params={}, tags={})
        fit(job, tracker)
        tracker.finish()
        last = torch.load(Path(folder) / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    state: dict[str, Tensor] = last["state_dict"]
    return state


def sharded(quick: bool) -> list[Row]:
    """FSDP2 at one rank against no strategy: the same weights, in every precision that it has."""
    rows: list[Row] = []
    for precision in ("64-true", "32-true") if quick else ("64-true", "32-true", "bf16-mixed"):
        alone, cut = (
            _trained(_small({"precision": precision, **strategy}, Cocktail({"l1": L1(1e-3)}, 0, "classification")))
            for strategy in ({}, {"strategy": "fsdp"})
        )
        rows.append((f"FSDP2, one rank / alone, {precision}", deviation(cut, alone), "largest deviation of a weight"))
    return rows


def convolutions(case: int, quick: bool) -> list[Row]:
    """Every lowering of the members' convolutions: one fused step in solo steps."""
    members = 2 if quick else 8
    found = convolutions_of(IMAGES[case], members, 2 if quick else _ROUNDS, False, DEVICE)
    channels, shape, batch = IMAGES[case]
    said = f"{members} members, channels {channels}, inputs {shape}, batch {batch}, in solo steps"
    return [(name, spread(ratios), said) for name, ratios in found.items()]


def graphs(quick: bool) -> list[Row]:
    """A step traced, and compiled (on CUDA: captured as a graph of the device).

    Time, and how far its terms are off.
    """
    case, members, steps = mlp(), 4 if quick else 64, 3 if quick else _STEPS
    runs, terms = {}, {}
    with fallbacks() as fell:
        for name, compiled in (("traced", False), ("compiled", True)):
            runs[name] = pack_steps(case, members, compiled, terms.setdefault(name, []))
    taken = {name: [1e3 * seconds_of(run, steps) for _ in range(_ROUNDS)] for name, run in runs.items()}
    graph = "captured as a CUDA graph" if DEVICE.type == "cuda" else "by Inductor; no CUDA graph on a CPU"
    rows: list[Row] = [(f"{name} step, ms", spread(each), f"{members} members") for name, each in taken.items()]
    first, second = (terms[name][0].double() for name in ("traced", "compiled"))
    off = float((first - second).abs().max() / first.abs().max())
    return [*rows, *fell, ("terms of the second step, compiled / traced", off, f"largest deviation; {graph}")]


def step(quick: bool) -> list[Row]:
    """A tracked step / one of a bare loop, with everything on that is on by default."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for case in cases().values():
            if quick:
                case = replace(case, first=1, last=3, batch=min(case.batch, 4))
            ours, base = [], []
            for _ in range(2 if quick else 4):
                base.append(seconds_a_step(case, bare(case)))
                ours.append(seconds_a_step(case, tracked(case, Path(temporary), store(Path(temporary)))))
            ratios = [own / other for own, other in zip(ours[1:], base[1:], strict=True)]
            said = (
                f"{1e3 * median(ours[1:]):.3f} / {1e3 * median(base[1:]):.3f} ms; {case.precision}, batch {case.batch}"
            )
            rows.append((f"{case.name}, tracked / bare", spread(ratios), said))
    return rows


def syncs(quick: bool) -> list[Row]:
    """How often a step makes the host wait for the device, and what set_sync_debug_mode warns of."""
    if DEVICE.type != "cuda":
        return [("synchronizations a step", "needs a GPU", "on a CPU: tests/training/test_quiet_steps.py")]
    rows: list[Row] = []
    for case in cases().values():
        with tempfile.TemporaryDirectory() as folder:
            waits, told, steps = waits_of(case, Path(folder))
        counted: Counter[str] = waits
        rows += [(f"{case.name}: {name}", counted[name] / steps, f"a step, of {steps}") for name in (*WAITS, *HARMLESS)]
        rows += [(f"{case.name}: warned at {line}", times, "times") for line, times in warned(told)]
    return rows


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "syncs": syncs,
    "step": step,
    **{f"pack {members}": partial(pack, members) for members in MEMBERS},
    "half": half,
    "fsdp": sharded,
    "graphs": graphs,
    **{f"convolutions {case}": partial(convolutions, case) for case in range(len(IMAGES))},
}

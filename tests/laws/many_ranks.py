"""Trains every method on several processes, data-parallel and sharded: started by test_many_ranks with torchrun."""

import copy
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import laws_harness as harness
import torch
from file_reads import file_reads
from torch import Tensor, distributed, nn

from reglab.core.errors import UserError
from reglab.core.signals import Interrupted
from reglab.measures import MeasureSettings, measure_settings
from reglab.regularizers import EMA, EarlyStopping, MaxNorm, Regularizer
from reglab.tracking import open_run, opening, reopen_run
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import resumable
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.solo import Solo

STRATEGIES = ("ddp", "fsdp")
FAST = {"_target_": "torch.optim.SGD", "lr": 1.0, "momentum": 0.9}  # the first epoch is the best
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}
COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"}
SIGNALLED = {
    "stopped": "cut",
    "scheduled": "cut-scheduled",
}  # cases that are also interrupted, and go on in this folder


class Spectral(Regularizer):
    """A penalty that is no sum over elements: the largest singular values."""

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        return 0.1 * torch.stack([torch.linalg.matrix_norm(w, 2) for w in weights.values() if w.dim() == 2]).sum()


class Noise(Regularizer):
    """Draws about weights: the same numbers, however these are cut."""

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        for name, weight in model.named_parameters():
            weight.add_(0.01 * self.keys.normal_like(weight, self.name, name))


CASES: dict[str, dict[str, Any]] = {name: {} for name in harness.NAMES} | {
    # Without BatchNorm, before which a bias has no gradient but rounding, and Adam makes a whole step of that.
    "adam": {"members": "elastic_net", "optimizer": ADAM, "norm": False},
    "clipped": {"members": "l2", "clip": 0.1},
    # Clipped proximal steps and decay under a schedule; weights of a column of zeros never have a gradient.
    "scheduled": {
        "members": {
            key: member
            for name in ("l1", "weight_decay", "weight_decay_fixed")
            for key, member in harness.members(name).items()
        },
        "optimizer": {**ADAM, "groups": [{"where": "0.*", "lr_scale": 0.5}]},
        "norm": False,
        "clip": 0.3,
        "scheduler": COSINE,
        "dead": True,
    },
    "spectral": {"members": {"spectral": Spectral()}},
    "noise": {"members": {"noise": Noise()}},
    "turns": {"members": "flooding", "batch_size": 5, "trainer": {"accumulate_grad_batches": 3}},
    "short turns": {"members": "flooding", "trainer": {"accumulate_grad_batches": 4}},
    "stopped": {"members": {"ema": EMA(0.2), "stop": EarlyStopping(patience=2)}, "optimizer": FAST},
    "tied": {"members": "l2", "model": "tied"},
    "units": {"members": {"ema": EMA(0.6), "cap": MaxNorm(0.2)}, "model": "transposed"},
    "recomputed": {"members": "dropout", "trainer": {"activation_checkpointing": True}},
    "compiled": {"members": "dropout", "trainer": {"compile": {"backend": "aot_eager"}}},
    "float32": {"members": "ema", "dtype": torch.float32},
    "measured": {"members": "l2", "measured": True},
}
"""By name: the yaml of a method, or members, and what is special."""


# What four processes do that two may not: uneven shares of rows and weights, several microbatches, draws, averages.
# Each method is held to two; four of them on two cores only take longer.
OF_FOUR = ("none", "l1", "ema", "dropout", "mixup", "sam", "max_norm", "clipped", "scheduled", "short turns", "stopped",
           "tied", "units", "spectral", "noise", "float32", "measured")  # fmt: skip


def cases(ranks: int) -> list[str]:
    """Return the cases of so many processes."""
    return [case for case in CASES if ranks == 2 or case in OF_FOUR]


def tied_model() -> nn.Module:
    """Return a net of which two layers share their weight."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(harness.FEATURES, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 7)]
        layers[4].weight = layers[2].weight
        return nn.Sequential(*layers, nn.Linear(7, harness.CLASSES)).double()


MODELS = {"tied": tied_model, "transposed": harness.transposed_model}


def job(case: str, ranks: int = 1, strategy: str = "ddp", **trainer: Any) -> Experiment:
    """Return the job of a case on so many processes: 5 joint batches, of which the last has 4 rows."""
    given = {"members": case, "dtype": torch.float64, "norm": True, "optimizer": None, "clip": None, "batch_size": 10}
    given |= {"model": "small", "trainer": {}, "scheduler": {}, "dead": False, "measured": False}
    own = given | CASES[case]
    named = own["members"]
    members = harness.members(named) if isinstance(named, str) else copy.deepcopy(named)  # they have state
    settings = {"precision": "64-true" if own["dtype"] == torch.float64 else "32-true", "devices": ranks, **trainer}
    settings |= {"strategy": strategy if ranks > 1 else "auto", **own["trainer"]}
    made = harness.experiment(
        members,
        model=MODELS[own["model"]]() if own["model"] in MODELS else harness.small_model(own["dtype"], norm=own["norm"]),
        optimizer=own["optimizer"],
        batch_size=own["batch_size"],
        trainer=settings,
        checkpoint_seconds=1000,
    )
    data = made.data
    if own["dead"]:
        data = replace(
            data, train=replace(data.train, inputs=data.train.inputs * (torch.arange(harness.FEATURES) != 2))
        )
    if own["measured"]:
        made = replace(made, measure=measured(sharded=ranks > 1 and strategy == "fsdp"))
    return replace(made, data=data, recipe=replace(made.recipe, clip=own["clip"], scheduler=own["scheduler"]))


def measured(sharded: bool) -> MeasureSettings:
    """Return settings with every measure, or those that are taken of sharded weights."""
    made = measure_settings(harness.measure_nodes())
    fitting = {name: each for name, each in made.named.items() if not sharded or "function" not in each.needs}
    return replace(made, measures=fitting)


class Signalled(Solo):
    """A signal comes to the last of the processes, in the middle of a step."""

    def step(self, rows: Tensor) -> Any:
        if self.global_rank == self.trainer.world_size - 1 and int(self.cocktail.keys.step) == 5:
            signal.raise_signal(signal.SIGTERM)
        return super().step(rows)


def trained(
    made: Experiment, folder: Path, resume: Checkpoint | None = None, module_class: type[Solo] = Solo
) -> dict[str, Tensor]:
    """Train with rank 0 in ``folder``, where Lightning sends every rank's checkpoint, the others below it.

    Returns the state at the end, as this rank's model has it.
    """
    rank = os.environ.get("RANK", "0")
    own = folder if rank == "0" else folder / f"rank{rank}"
    if resume and (own / "journal.jsonl").exists() and rank == "0":
        tracker = reopen_run(own)
    else:
        tracker = open_run(harness.NOWHERE, name="law", folder=own, config={}, params={}, tags={})
    try:
        fit(made, tracker, resume=resume, module_class=module_class)
    finally:
        tracker.finish()
    return dict(made.model.state_dict())


def signalled(folder: Path, made: Experiment) -> Checkpoint:
    """Let a signal come to the last rank, and return the checkpoint that training left when all had ended."""
    rank = os.environ.get("RANK", "0")
    try:
        trained(made, folder, module_class=Signalled)
    except Interrupted as end:
        folder.with_name(f"{folder.name}-ended-{rank}.txt").write_text(str(end.number))
    found = resumable(folder / "checkpoints")
    assert found is not None
    return found


def all_cases(target: Path) -> None:
    """Train every case on the processes that there are, and go on with what one process has begun."""
    rank, ranks = os.environ["RANK"], int(os.environ["WORLD_SIZE"])
    for strategy in STRATEGIES:
        for case in cases(ranks):
            state = trained(job(case, ranks, strategy), target / strategy / case)
            torch.save(state, target / strategy / f"{case}-{rank}.pt")
        for case, folder in SIGNALLED.items():
            if case != "stopped":
                made = [job(case, ranks, strategy) for _ in range(2)]
                trained(made[1], target / strategy / folder, signalled(target / strategy / folder, made[0]))
        begun = target / strategy / "from_one"
        own = signalled(target / strategy / "cut", job("stopped", ranks, strategy))
        if rank == "0":
            shutil.copytree(own.path.parent, target / strategy / "from_several" / "checkpoints")
            recorded = len(harness.rows_of(target / strategy / "cut"))
        trained(job("stopped", ranks, strategy), target / strategy / "cut", own)
        if rank == "0":
            assert (
                0 < recorded < len(harness.rows_of(target / strategy / "cut"))
            )  # it went on, and began no second time
        with file_reads(begun / "checkpoints") as opened:
            found = resumable(begun / "checkpoints")
            distributed.barrier()  # before rank 0 begins a journal there, which has fewer rows than the checkpoint says
            trained(job("stopped", ranks, strategy), begun, found)
        (target / strategy / f"opened-{rank}.json").write_text(json.dumps(opened))
        distributed.barrier()
        alone = resumable(begun / "checkpoints") if rank == "0" else None  # as where the disk is no shared one
        try:
            trained(job("stopped", ranks, strategy), target / strategy / "unshared", alone)
        except UserError as error:
            (target / strategy / f"unshared-{rank}.txt").write_text(str(error))
    if ranks == 4:  # two copies of the weights, each cut in two
        trained(job("elastic_net", ranks, "fsdp", shards=2), target / "fsdp" / "copies")


if __name__ == "__main__":
    opening.check_nothing_overwritten = lambda folder: None  # runs begin here at a checkpoint that another one left
    torch.set_num_threads(1)
    all_cases(Path(sys.argv[1]))

"""Trains every method under data-parallel processes and saves the weights: started by test_two_ranks with torchrun."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import laws_harness as harness
import torch

from reglab.signals import Interrupted
from reglab.tracking import open_run, reopen_run
from reglab.training import experiment
from reglab.training.checkpoint_files import read
from reglab.training.checkpoints import resumable
from reglab.training.experiment import fit
from reglab.training.solo import Solo


def job(name: str, ranks: int) -> harness.Experiment:
    """Return the job on ``ranks`` processes, each with its part of the same joint batches.

    Of 4 rows, so that each rank has an even number, which mixup pairs.
    """
    trainer = {"precision": "64-true", "devices": 1}
    if ranks > 1:
        trainer |= {"devices": ranks, "strategy": "ddp", "num_nodes": 1}
    # No BatchNorm: its statistics are each rank's own by design (sync_batchnorm is the user's choice).
    model = harness.small_model(torch.float64, norm=False)
    options = {"batch_size": 4 // ranks, "trainer": trainer, "checkpoint_seconds": 0.01}
    return harness.experiment(harness.members(name), model=model, **options)


class SignalledOnRankOne(Solo):
    """A signal comes to one of the processes, in the middle of a step."""

    def _step(self, rows: torch.Tensor) -> Any:
        if self._rank == 1 and int(self.cocktail.keys.step) == 5:
            signal.raise_signal(signal.SIGTERM)
        return super()._step(rows)


def trained(name: str, rank: str, folder: Path) -> dict[str, torch.Tensor]:
    """Train on two ranks: rank 0 in ``folder``, where Lightning sends every rank's checkpoint, the other below it."""
    own = folder if rank == "0" else folder / f"rank{rank}"
    resume = resumable(folder / "checkpoints")
    if resume and rank == "0":
        tracker = reopen_run(own)
    else:
        tracker = open_run(harness.NOWHERE, name="law", folder=own, config={}, params={}, tags={})
    tracker.folder = folder
    try:
        fit(job(name, 2), tracker, resume=resume)
    finally:
        tracker.finish()
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, target = os.environ["RANK"], Path(sys.argv[1])
    for name in harness.NAMES:
        state = trained(name, rank, target / name)
        if rank == "0":
            torch.save(state, target / f"{name}.pt")
    with patch.object(experiment, "Solo", SignalledOnRankOne):
        try:
            trained("ema", rank, target / "cut")
        except Interrupted as end:
            steps = int(read(target / "cut" / "checkpoints" / "last.ckpt")["state_dict"]["cocktail.keys.step"])
            (target / f"ended-{rank}.txt").write_text(f"{end.number} {steps}")
    recorded = len(harness.rows_of(target / "cut")) if rank == "0" else 0
    state = trained("ema", rank, target / "cut")
    if rank == "0":
        torch.save(state, target / "cut.pt")
        assert harness.rows_of(target / "cut") == harness.rows_of(target / "ema")
        assert 0 < recorded < len(harness.rows_of(target / "cut"))  # it went on, and began no second time

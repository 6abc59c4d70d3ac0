"""Best epoch of each job of a pack: state, metrics and epoch number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reglab.core.metric_direction import lower_is_better
from reglab.training.fused.member import Member
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import STEP, Stack, member_state


class Best:
    """Keeps each job's state, metrics and epoch where ``monitor`` was lowest or highest, by the
    job's number.

    Before the first ``offer`` there is none: ``epochs`` is 0.
    """

    def __init__(self, pack: Pack, monitor: str) -> None:
        self.monitor = monitor
        jobs = len(pack)
        self.values = [math.nan] * jobs
        self.epochs = [0] * jobs
        self.steps = [0] * jobs
        self.metrics: list[dict[str, float]] = [{} for _ in range(jobs)]
        self._cocktail = pack.base.cocktail
        self._kept = Stack(dict(pack.stack.weights), dict(pack.stack.buffers), dict(pack.stack.shared)).clone()

    def offer(self, pack: Pack, rows: Sequence[int], metrics: Sequence[Mapping[str, float]], epoch: int) -> None:
        """Keep the state of each of ``rows`` whose measured epoch is its best so far."""
        better = []
        for row, measured in zip(rows, metrics, strict=True):
            job_index, value = pack.job_indices[row], measured[self.monitor]
            best = self.values[job_index]
            if math.isnan(best) or (value < best if lower_is_better(self.monitor) else value > best):
                better.append(row)
                self.values[job_index], self.epochs[job_index], self.steps[job_index] = value, epoch, pack.done()
                self.metrics[job_index] = dict(measured)
        self._copy(pack, better)

    def state(self, job_index: int, base: Member) -> dict[str, Tensor]:
        """Return the state dict of a job's best epoch, as it would be alone."""
        state = member_state(self._kept, job_index, base)
        state[STEP] = torch.tensor(self.steps[job_index])
        return state

    def stack(self, job_indices: Sequence[int]) -> Stack:
        """Return the state of these jobs' best epochs: to be read, not changed."""
        return self._kept if list(job_indices) == list(range(len(self._kept))) else self._kept.take(job_indices)

    def member(self, job_index: int) -> dict[str, Any]:
        """Return a job's state for ``Checkpoints``, as of a solo run."""
        epoch = self.epochs[job_index]
        return {"best_value": self.values[job_index] if epoch else None, "best_epoch": epoch}

    def state_dict(self) -> dict[str, Any]:
        return {
            "values": list(self.values),
            "epochs": list(self.epochs),
            "steps": list(self.steps),
            "metrics": [dict(each) for each in self.metrics],
            "kept": self._kept.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values, self.epochs, self.steps = list(state["values"]), list(state["epochs"]), list(state["steps"])
        self.metrics = [dict(each) for each in state["metrics"]]
        self._cocktail.complete(state["kept"]["buffers"])
        self._kept.load_state_dict(state["kept"])

    def _copy(self, pack: Pack, rows: Sequence[int]) -> None:
        if not rows:
            return
        if self._kept.device != pack.stack.device:
            self._kept = self._kept.to(pack.stack.device)
        source = torch.tensor(list(rows), device=pack.stack.device)
        target = torch.tensor([pack.job_indices[row] for row in rows], device=pack.stack.device)
        for kept, now in ((self._kept.weights, pack.stack.weights), (self._kept.buffers, pack.stack.buffers)):
            for name, tensor in kept.items():
                tensor.index_copy_(0, target, now[name].index_select(0, source))

"""Best epoch of each job of a pack: state, metrics and epoch number."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reglab.training.best_epoch import BestEpochs
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import STEP, Stack, member_state


class Best:
    """Keeps each job's state at its best epoch, by the job's index.

    Args:
        pack: Whose jobs they are.
        monitor: The metric that decides.

    Attributes:
        record: Epoch, step and metrics of each job.
    """

    def __init__(self, pack: Pack, monitor: str) -> None:
        self.record = BestEpochs(monitor, len(pack))
        self._pack = pack
        self._kept = Stack(dict(pack.stack.weights), dict(pack.stack.buffers), dict(pack.stack.shared)).clone()

    def offer(self, rows: Sequence[int], metrics: Sequence[Mapping[str, float]], epoch: int) -> None:
        """Keep the state of each of ``rows`` whose measured epoch is its best so far."""
        job_indices = [self._pack.job_indices[row] for row in rows]
        better = self.record.offer(job_indices, metrics, epoch, self._pack.done())
        self._copy([rows[position] for position in better])

    def state(self, job_index: int) -> dict[str, Tensor]:
        """Return the state dict of a job's best epoch, as it would be alone."""
        state = member_state(self._kept, job_index, self._pack.base)
        state[STEP] = torch.tensor(self.record.steps[job_index])
        return state

    def stack(self, job_indices: Sequence[int]) -> Stack:
        """Return the state of these jobs' best epochs: to be read, not changed."""
        return self._kept if list(job_indices) == list(range(len(self._kept))) else self._kept.take(job_indices)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all jobs."""
        return {**self.record.state_dict(), "kept": self._kept.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self.record.load_state_dict(state)
        self._pack.base.cocktail.complete(state["kept"]["buffers"])
        self._kept.load_state_dict(state["kept"])

    def _copy(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        stacked = self._pack.stack
        if self._kept.device != stacked.device:
            self._kept = self._kept.to(stacked.device)
        source = torch.tensor(list(rows), device=stacked.device)
        target = torch.tensor([self._pack.job_indices[row] for row in rows], device=stacked.device)
        for kept, now in ((self._kept.weights, stacked.weights), (self._kept.buffers, stacked.buffers)):
            for name, tensor in kept.items():
                tensor.index_copy_(0, target, now[name].index_select(0, source))

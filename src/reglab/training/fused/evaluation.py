"""Evaluation of all members of a pack, on shared rows or on each member's own."""

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from reglab.measures.evaluate import evaluation_mode, one_tensor
from reglab.tasks import Task, task_named
from reglab.training.fused.graph import Graph
from reglab.training.fused.member import Member
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import Stack
from reglab.training.measured_rows import Rows, StreamedRows

# Members times rows that are evaluated at a time. On a CPU what a layer makes of them should stay
# in the cache; an accelerator wants much at once, and the bound is that of its memory.
_CPU_CELLS, _CELLS = 2**13, 2**18
_PAIRS = 2**25  # of rows whose losses compare them, at a time


class Evaluator:
    """Evaluates the members of a pack: what ``reglab.measures.evaluate`` is for one model.

    A function of each shape of rows is traced once; ``forget`` it when the pack was compacted.

    Args:
        task: Of the jobs.
        outputs: Return the model's outputs, too.
        cells: Members times rows that are evaluated at a time; None: what suits the device.
    """

    def __init__(self, task: Task | str, outputs: bool = False, cells: int | None = None) -> None:
        self._task, self._outputs, self._cells = task_named(task), outputs, cells
        self._output_shape: tuple[int, ...] = ()
        self._graphs: dict[tuple[object, ...], Graph] = {}

    def forget(self) -> None:
        """Drop the traced graphs: the pack's members, device or lowerings have changed."""
        self._graphs = {}

    def __call__(
        self,
        pack: Pack,
        weights: dict[str, Tensor],
        inputs: Rows | StreamedRows,
        targets: Rows,
        clean: Rows | None,
        sets: Tensor,
    ) -> Tensor:
        """Return the ``example_statistics`` of all rows, ``[statistics, members, rows]``, in
        evaluation mode.

        weights: of the members, ``[members, ...]`` by name, and buffers to be taken in place of the
        pack's. clean: other targets, whose losses follow as one more row. With ``outputs`` each of
        the model's output columns is one more row, the last ones.
        """
        count = inputs.length
        size = min(count, _rows_at_once(sets.device, len(pack), self._cells))
        state = {name: tensor for name, tensor in pack.stack.buffers.items() if name.startswith("model.")} | weights
        given = [targets] if clean is None else [targets, clean]
        per_member = tuple(rows.per_member for rows in (inputs, *given))
        starts = range(0, count, size)
        firsts = [min(start, count - size) for start in starts]  # the last chunk overlaps: it needs no graph of its own
        chunks = inputs.chunks([slice(first, first + size) for first in firsts], sets)
        parts: list[Tensor] = []
        for start, first, values in zip(starts, firsts, chunks, strict=True):
            chunk = [values, *(rows.at(slice(first, first + size), sets) for rows in given)]
            parts.append(self._run(pack, state, chunk, per_member)[..., start - first :])
        joint = torch.cat(parts, dim=-1)
        return joint if self._task.per_example else self._compared(joint, given, sets)

    def _compared(self, outputs: Tensor, targets: list[Rows], sets: Tensor) -> Tensor:
        """Return the statistics of losses that compare rows, from the outputs of all rows."""
        aligned, task = self.in_shape(outputs.movedim(0, -1)), self._task
        pairs = aligned.shape[1] * task.fewest  # of compared rows, of a member
        size = 1 if any(rows.per_member for rows in targets) else max(1, _PAIRS // pairs)
        found = []
        for number in range(0, len(aligned), size):
            members = aligned[number : number + size]
            own, *clean = (rows.all(sets[number : number + 1])[0] for rows in targets)
            statistics = [task.statistics_of(task.losses(members, own), members, own)]
            found.append(torch.cat([*statistics, *(task.losses(members, other).unsqueeze(0) for other in clean)]))
        joint = torch.cat(found, 1)
        return torch.cat([joint, outputs]) if self._outputs else joint

    def _run(self, pack: Pack, state: dict[str, Tensor], chunk: list[Tensor], per_member: tuple[bool, ...]) -> Tensor:
        members = len(next(iter(state.values())))  # of the pack, or of those that end
        key = (members, per_member, *(values.shape for values in chunk))
        graph = self._graphs.get(key)
        if graph is None:
            statistics = _MemberStatistics(pack.base, self._task, self._outputs)
            run = vmap(statistics, in_dims=(0, *(0 if axis else None for axis in per_member)), out_dims=1)
            with evaluation_mode(pack.base.model):
                graph = self._graphs[key] = Graph(run, (state, *chunk))
            self._output_shape = statistics.output_shape
        return graph(state, *chunk)

    def in_shape(self, outputs: Tensor) -> Tensor:
        """Return outputs ``[members, rows, columns]``, as they are among the statistics, in the
        shape that the task's losses take.
        """
        return outputs.reshape(*outputs.shape[:2], *self._output_shape)


def outputs_of(pack: Pack, stacked: Stack, inputs: Rows | StreamedRows, sets: Tensor) -> Tensor:
    """Return the outputs of the members in ``stacked``, [members, rows, ...], in evaluation mode.

    With the weights that each is judged by.

    Args:
        sets: As for ``Rows.at``. Nothing is traced: it is asked once.
    """

    def forward(state: dict[str, Tensor], values: Tensor) -> Tensor:
        outputs = functional_call(pack.base, state, (lambda member: member.model(values),))
        return one_tensor(outputs, pack.base.model)

    buffers = {name: tensor for name, tensor in stacked.buffers.items() if name.startswith("model.")}
    state, run = (
        buffers | pack.evaluation_weights(stacked),
        vmap(forward, in_dims=(0, 0 if inputs.per_member else None)),
    )
    count, size = inputs.length, _rows_at_once(sets.device, len(stacked))
    with evaluation_mode(pack.base.model), torch.no_grad():
        chunks = inputs.chunks([slice(first, first + size) for first in range(0, count, size)], sets)
        return torch.cat([run(state, chunk) for chunk in chunks], dim=1)


def _rows_at_once(device: torch.device, members: int, cells: int | None = None) -> int:
    return max(1, (cells or (_CPU_CELLS if device.type == "cpu" else _CELLS)) // members)


class _MemberStatistics:
    """One member's statistics ``[statistics, rows]``, and its outputs, flat, as further rows.

    Attributes:
        output_shape: Of one row's aligned outputs, once it was called.
    """

    def __init__(self, base: Member, task: Task, outputs: bool) -> None:
        self._base, self._task, self._outputs = base, task, outputs
        self.output_shape: tuple[int, ...] = ()

    def __call__(self, state: dict[str, Tensor], inputs: Tensor, targets: Tensor, *clean: Tensor) -> Tensor:
        outputs = functional_call(self._base, state, (lambda member: member.model(inputs),))
        aligned = self._task.align(one_tensor(outputs, self._base.model), targets)
        statistics = []
        if self._task.per_example:
            statistics = [self._task.statistics(aligned, targets)]
            statistics += [self._task.losses_of(self._task.statistics(aligned, other)).unsqueeze(0) for other in clean]
        if self._outputs or not self._task.per_example:
            self.output_shape = tuple(aligned.shape[1:])
            statistics.append((aligned.flatten(1) if aligned.dim() > 1 else aligned.unsqueeze(-1)).mT)
        return torch.cat(statistics)

"""A pack: jobs that differ only in hyperparameters, trained as one vectorized step."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from reglab.config.pack_settings import PackSettings
from reglab.core.errors import Unfused, UserError
from reglab.training.experiment import Experiment
from reglab.training.fused.compilation import Compilation
from reglab.training.fused.convolution import lower
from reglab.training.fused.graph import Graph
from reglab.training.fused.member import Member, structure, why_solo
from reglab.training.fused.optimizers import joint_rule, numbered, numbers_of
from reglab.training.fused.reasons import reason
from reglab.training.fused.rows import PackSteps
from reglab.training.fused.schedules import Schedules
from reglab.training.fused.shared_rows import shared_rows_of
from reglab.training.fused.stack import STEP, Stack, stack
from reglab.training.fused.step import LossInspection, MemberStep, PackStep, frozen, inspect_loss
from reglab.training.fused.window import Window
from reglab.training.loader import Steps
from reglab.training.silent_hooks import check_hooks

_log = logging.getLogger(__name__)
_SETTINGS = PackSettings()


class Pack:
    """The stacked state of several jobs, and the operations on all of them at once.

    Args:
        experiments: Their jobs.

    Attributes:
        job_indices: The number of the job in each row of the stack; jobs that ended leave it, in
            ``keep``.
        compiled, ragged, lowering: Choices that change rounding, so a resumed pack must make them
            again.
        compiling: Whether it is to be compiled while it trains; it is not ``compiled`` until then.
        order: The trained weights, as the optimizer numbers them.
        groups: The number of each weight's param group; empty where there is one.
    """

    def __init__(self, experiments: Sequence[Experiment], settings: PackSettings = _SETTINGS) -> None:
        """Stack the jobs' state.

        Raises:
            Unfused: With groups, if the jobs cannot all train together.
            UserError: For bad input.
        """
        _check(experiments)
        first = experiments[0]
        self.experiments, self.settings = experiments, settings
        members = []
        for experiment in experiments:
            if experiment.trainer.get("precision") in ("64-true", "64", 64):
                experiment.model.double()
            members.append(Member(experiment.model, experiment.cocktail).train())
        self.base = members[0]
        check_hooks(self.base.model, self.base.cocktail, first.data.train.inputs, first.data.train.index)
        self.task = first.data.criterion
        steps = Steps(len(first.data.train), first.recipe.batch_size, 0, first.recipe, lambda: 0).per_epoch
        self.schedules = Schedules([job.recipe for job in experiments], steps, self.base.model)
        optimizers = self.schedules.optimizers()  # some schedules set a momentum
        self.rule = joint_rule(optimizers)
        clips = [job.recipe.clip for job in experiments]
        self.stack = stack(members, [numbers_of(optimizer) for optimizer in optimizers], self.rule, clips)
        self.order, self.groups = numbered(first.recipe, self.base.model)
        self.seeds = [int(member.cocktail.keys.seed) for member in members]
        self.train_rows = shared_rows_of(experiments, self.seeds)
        self.job_indices = list(range(len(experiments)))
        self.loader = PackSteps(self.train_rows.rows, first.recipe, self._orders, self.done)
        self.window = Window(self.train_rows, self.loader.upcoming, self.dtype)
        self.stack.numbers["base_lr"] = self.schedules.base_rates()
        numbers = self._step_numbers(0, self.schedules.numbers(0, 1))
        self.stack.step_numbers = {name: number[0].clone() for name, number in numbers.items()}
        self._sizes = self.loader.sizes
        self._batch = self._sizes[0]
        self.compiled = self.ragged = self.compiling = False
        self.lowering: dict[str, str] = {}
        self._device: torch.device | None = None
        self._forget()

    def __len__(self) -> int:
        return len(self.job_indices)

    def done(self) -> int:
        """Return the number of steps done."""
        return int(self.stack.shared[STEP])

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.stack.weights.values())).dtype

    def _orders(self) -> list[tuple[int, int]]:
        return [(self.seeds[job_index], self.train_rows.part[job_index]) for job_index in self.job_indices]

    def to(self, device: torch.device) -> None:
        """Move everything to ``device``; nothing happens to a pack that is there."""
        if self._device == device:
            return
        self._device = device
        self.base.to(device)
        self.stack = self.stack.to(device)
        self.train_rows = self.train_rows.to(device, self.dtype)
        self.window = Window(self.train_rows, self.loader.upcoming, self.dtype)
        self._forget()

    def choose(
        self, compiled: bool, lowering: Mapping[str, str], ragged: bool = False, compiling: bool = False
    ) -> None:
        """Set the choices that change rounding.

        Args:
            lowering: Of each convolution, by its path in the model.
            ragged: Whether the epoch's last batch, where it has another size, is compiled too; the
                second compilation takes as long as the first.
        """
        self.compiled, self.ragged, self.compiling = compiled, ragged, compiling
        if lowering != self.lowering:
            self.lowering = dict(lowering)
            lower(self.base.model, self.lowering)
            self._forget()

    def _forget(self) -> None:
        """Drop the traced graphs: tensors have other shapes, or are on another device."""
        self._graphs: dict[torch.Size, Graph] = {}
        self._step: PackStep | None = None
        self._state: list[Tensor] = []

    @property
    def terms(self) -> list[str]:
        """The names of the loss's terms, once a step was done."""
        return self._step.names if self._step else []

    def numbers(self, first: int, scheduled: Mapping[str, Tensor]) -> Tensor:
        """Return what ``step`` takes for each step from number ``first`` on, float64 [steps,
        numbers, members], or with an axis more for param groups.

        Args:
            scheduled: The optimizers' numbers in these steps, as ``schedules`` has them.
        """
        return torch.stack(list(self._step_numbers(first, scheduled).values()), 1).to(self.stack.device)

    def _step_numbers(self, first: int, scheduled: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rates = scheduled["lr"][:, self.job_indices]
        numbers = {name: number.unsqueeze(0) for name, number in self.stack.numbers.items()}
        numbers |= {name: number[:, self.job_indices] for name, number in scheduled.items()}
        step_numbers = self.rule.step_numbers(numbers, range(first, first + len(rates)))
        return {name: number.expand(rates.shape) for name, number in step_numbers.items()}

    def step(self, rows: Tensor, numbers: Tensor) -> Tensor:
        """Take one step on ``rows`` (as the loader yields them) and return the terms, [terms,
        members].

        Args:
            numbers: The optimizer's in this step, float64 [numbers, members].
        """
        torch._foreach_copy_(list(self.stack.step_numbers.values()), list(numbers.unbind()))
        self.window.load(rows)
        graph = self.graph(rows)
        if self.compiled and not graph.compiled and (self.ragged or rows.shape[-1] == self._batch):
            self.compile()
        return graph.run(self._tensors(graph, rows))

    def _tensors(self, graph: Graph, rows: Tensor) -> list[Tensor]:
        if not self._state:
            self._state = graph.flat(arguments(self.stack, rows))[:-1]
        return [*self._state, rows.to(self.stack.device)]

    def compilation(self) -> Compilation:
        """Start to compile the step, in a process of its own, and the one on an epoch's last batch
        if it is ``ragged``.

        Raises:
            Unfused: If the model or a regularizer cannot be vmapped.
        """
        modules = {type(part).__module__ for part in self.base.modules()}
        steps = [(graph, self._tensors(graph, rows)) for rows in self._batches() for graph in [self.graph(rows)]]
        return Compilation(steps, self.settings.compile_seconds, sorted(modules))

    def _batches(self) -> list[Tensor]:
        """Return rows of each shape that is to be compiled.

        Of equal rows BatchNorm would leave gradients of rounding alone, by which compiled and eager
        steps could not be compared.
        """
        sizes = dict.fromkeys([self._batch, self._sizes[-1]] if self.ragged else [self._batch])
        return [(torch.arange(size) % self.loader.rows).expand(self.loader.shape(size)).contiguous() for size in sizes]

    def compile(self) -> bool:
        """Compile now, unless done, and return whether it succeeded; a failure is logged."""
        if all(self.graph(rows).compiled for rows in self._batches()):
            return True
        compilation = self.compilation()
        try:
            compilation.wait()
            self.adopt_compiled(compilation)
            return self.compiled
        finally:
            compilation.close()

    def matches(self, compilation: Compilation) -> bool:
        """Whether the compilation is of the pack's current graphs."""
        return compilation.graphs[0][0] in self._graphs.values()

    def adopt_compiled(self, compilation: Compilation) -> None:
        """Use the compiled steps from now on; what failed to compile stays eager, with a
        warning.
        """
        done = compilation.load()
        compiled = compilation.graphs[0][0].compiled
        self.choose(compiled, self.lowering, self.ragged and done)
        if not done:
            what = "the pack continues uncompiled" if not compiled else "the last batch of each epoch stays uncompiled"
            _log.warning("%s: %s", compilation.reason, what)

    def graph(self, rows: Tensor) -> Graph:
        """Return the step on batches of the shape of ``rows``; it is traced once.

        Nothing is changed.

        Raises:
            Unfused: If the model or a regularizer cannot be vmapped.
        """
        known = self._graphs.get(rows.shape)
        if known is not None:
            return known
        rows = rows.to(self.stack.device)
        try:
            if self._step is None:
                self._step = PackStep(
                    MemberStep(self.base, self.task, self.rule, self._inspect_loss(rows), self.groups)
                )
            made = self._graphs[rows.shape] = Graph(self._call, arguments(self.stack, rows))
            return made
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            raise Unfused(f"the model or a regularizer cannot be vmapped ({reason(error)})") from error

    def _call(
        self, weights: Any, buffers: Any, optimizer_state: Any, numbers: Any, shared: Any, rows: Tensor
    ) -> Tensor:
        assert self._step is not None
        return self._step(
            Stack(weights, buffers, shared, optimizer_state, step_numbers=numbers),
            self.train_rows.batch(rows),
            rows.dim() > 1,
        )

    def _inspect_loss(self, rows: Tensor) -> LossInspection:
        return inspect_loss(self.base, self.task, self.rule, self.train_rows.batch(rows[0] if rows.dim() > 1 else rows))

    def evaluation_weights(self, stacked: Stack | None = None) -> dict[str, Tensor]:
        """Return the weights that each member would be judged by, such as averaged ones, [members,
        ...] by name.

        Where they are averaged, so are the ``statistics`` of the model, which are among them then.

        Args:
            stacked: The state of other members than the pack's, or of another epoch.
        """
        stacked = self.stack if stacked is None else stacked
        if not self.base.cocktail.averages:
            return stacked.weights

        fixed = frozen(self.base)

        def read(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            state = {name: tensor.clone() for name, tensor in tensors.items() if name not in fixed}
            weights: dict[str, Tensor] = functional_call(self.base, state, (_read_evaluation_weights,))
            return weights

        with torch.no_grad():
            stacked_weights = vmap(read)(stacked.weights | stacked.buffers)
        trained = {f"model.{name}": tensor for name, tensor in stacked_weights.items()}
        other = {f"model.{name}" for name in self.base.cocktail.statistics}
        return {name: tensor for name, tensor in trained.items() if name in stacked.weights or name in other}

    def stop(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Return which members want to stop, bool [members], given the metrics of the epoch, each
        [members].
        """

        def ask(buffers: dict[str, Tensor], measured: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            state = {name: tensor.clone() for name, tensor in buffers.items()}
            answer = functional_call(self.base, state, (lambda member: member.cocktail.stop(measured),))
            return answer, state

        with torch.no_grad():
            answers, state = vmap(ask)(self.stack.buffers, dict(metrics))
        for name, tensor in self.stack.buffers.items():
            tensor.copy_(state[name])
        return answers

    def stack_of(self, job_indices: Sequence[int]) -> Stack:
        """Return weights and buffers of these jobs, all of which must still have a row: to be read,
        not changed.
        """
        whole = Stack(self.stack.weights, self.stack.buffers, self.stack.shared)
        return (
            whole
            if list(job_indices) == self.job_indices
            else whole.take([self.job_indices.index(job_index) for job_index in job_indices])
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only the members in these rows of the stack; a compiled pack is then recompiled."""
        self.stack = self.stack.take(rows)
        self.job_indices = [self.job_indices[row] for row in rows]
        self.window.close()  # the orders of fewer members are read from now on
        self._forget()
        if self.compiled and not self.settings.compile:
            self.compiled, self.compiling = False, True


def arguments(stacked: Stack, rows: Tensor) -> tuple[object, ...]:
    """Return what a graph of the step is called with; what differs from call to call comes last."""
    return stacked.weights, stacked.buffers, stacked.optimizer_state, stacked.step_numbers, stacked.shared, rows


def _read_evaluation_weights(member: Member) -> dict[str, Tensor]:
    with member.cocktail.evaluating(member.model):
        buffers = {name: member.model.get_buffer(name) for name in member.cocktail.statistics}
        return {name: weight.clone() for name, weight in [*member.model.named_parameters(), *buffers.items()]}


def _check(experiments: Sequence[Experiment]) -> None:
    if len(experiments) < 2:
        raise UserError(f"a pack needs at least 2 jobs, got {len(experiments)}")
    unfused_reason = why_solo(experiments[0])
    groups: dict[object, list[int]] = {}
    for job_index, experiment in enumerate(experiments):
        groups.setdefault(structure(experiment), []).append(job_index)
    if len(groups) > 1:
        raise Unfused("they differ in more than numbers", list(groups.values()))
    if unfused_reason:
        raise Unfused(unfused_reason)

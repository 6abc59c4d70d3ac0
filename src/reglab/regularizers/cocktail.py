"""Cocktail: several regularizers applied together, the first innermost."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.regularizers.base import Batch, Gradient, Objective, Outcome, Regularizer, overrides, weighted
from reglab.regularizers.dropout import take_over_dropout
from reglab.regularizers.keys import Keys
from reglab.regularizers.parameter_kinds import Kind, forget_kinds, kinds_of
from reglab.regularizers.select import Named, check_selection
from reglab.regularizers.weight_average import BY_OPTIMIZER, WeightAverage

Loss = Callable[[Tensor, Tensor], Tensor]
"""``(outputs, targets) -> losses [rows]``, one for each example."""


class Cocktail(nn.Module):
    """The regularizers of one job, by name, with the state of their draws.

    Whoever trains (solo, fused, a callback in somebody else's loop) calls the same few methods, in
    this order: ``prepare`` once; then each step ``objective`` and ``penalties`` inside
    ``gradient``, ``before_step``, ``after_step``; then ``evaluating`` and ``stop`` at each
    measurement.

    Attributes:
        hooked: Once prepared, by member the paths of the modules on whose forward pass it has put
            hooks.
    """

    def __init__(self, members: Mapping[str, Regularizer], seed: int, task: str) -> None:
        """Check and register the members.

        Raises:
            UserError: If two members claim the same thing or one does not fit the task.
        """
        super().__init__()
        self.keys = Keys(seed)
        _check(members, task)
        self.members = nn.ModuleDict(dict(members))
        self.task = task
        self._kinds: dict[str, Kind] = {}
        self.hooked: dict[str, list[str]] = {}
        self.bind()

    def bind(
        self, mean: Callable[[Tensor], Tensor] | None = None, total: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Hand each member its name, the task, the keys, and how losses are averaged and sums added
        up over ranks.
        """
        for name, member in self.named_regularizers():
            member.bind(name, self.task, self.keys, mean, total)
        self._stepping = {hook: self._with(hook) for hook in ("before_step", "on_step", "on_gradient", "penalty")}
        # An average is of the weights that a step ends with: after projections, wherever these
        # stand in the list.
        self._stepping["on_step"].sort(key=lambda member: overrides(member, "evaluating"))

    def named_regularizers(self) -> list[tuple[str, Regularizer]]:
        return [(name, cast(Regularizer, member)) for name, member in self.members.items()]

    def _with(self, hook: str) -> list[Regularizer]:
        return [member for _, member in self.named_regularizers() if overrides(member, hook)]

    @property
    def wraps_gradient(self) -> bool:
        return bool(self._stepping["on_gradient"])

    def has(self, hook: str) -> bool:
        """Whether a member acts in ``hook``: ``before_step``, ``on_step``, ``on_gradient`` or
        ``penalty``.
        """
        return bool(self._stepping[hook])

    @property
    def averages(self) -> bool:
        """Whether the weights that are judged are others than the trained ones."""
        return bool(self._with("evaluating"))

    @property
    def averages_apart(self) -> bool:
        """Whether the trained weights are a model of their own beside those that are judged."""
        return all(member.apart for member in self._with("evaluating") if isinstance(member, WeightAverage))

    def judge_by(self, average: WeightAverage) -> None:
        """Add the average that the optimizer stands for, unless there is one, as the innermost
        member.

        Raises:
            UserError: If a member averages too.
        """
        for name, member in self.named_regularizers():
            if name == BY_OPTIMIZER and type(member) is type(average):
                return
            if name == BY_OPTIMIZER:
                raise UserError(f"regularizer.{name}: this optimizer needs the name {name} itself; take another one")
            if member.claims & average.claims:
                raise UserError(
                    f"regularizer.{name}: the optimizer stands for an average of the weights already; leave {name} "
                    "out, or take another optimizer, such as adamw"
                )
        self.members = nn.ModuleDict({BY_OPTIMIZER: average, **self.members})
        self.bind()

    @property
    def statistics(self) -> list[str]:
        """The model's buffers that are judged as others than the trained ones, too."""
        return [name for _, member in self.named_regularizers() for name in member.statistics]

    def averaged_statistics(self) -> list[Tensor]:
        """Return what they are judged as."""
        members = (member for _, member in self.named_regularizers())
        return [member.get_buffer(buffer_name) for member in members for buffer_name in member.statistics.values()]

    @property
    def stops(self) -> bool:
        """Whether a member may end training early."""
        return any(member.stops for _, member in self.named_regularizers())

    def complete(
        self, state: dict[str, Any], prefix: str = "cocktail.", model: Mapping[str, Tensor] | None = None
    ) -> None:
        """Put into a state dict from an earlier version what its members did not keep then.

        Args:
            prefix: Of the cocktail's keys.
            model: The tensors of the model by name; else those under ``model.``.
        """
        if model is None:
            model = {name.removeprefix("model."): it for name, it in state.items() if name.startswith("model.")}
        for name, member in self.named_regularizers():
            member.complete(state, f"{prefix}members.{name}.", model)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Take the model over: its own dropout becomes counter-based, then each member may change
        it, once.

        Raises:
            UserError: If a member selects parameters that are not there, or finds nothing to act
                on.
        """
        before = [name for name, _ in model.named_parameters()]
        take_over_dropout(model, self.keys)
        forget_kinds(model)
        self.check_selections(model)
        for name, member in self.named_regularizers():
            before_hooks = _hooks(model)
            try:
                model = member.on_model(model)
            except ValueError as error:
                raise UserError(f"regularizer.{name}: {error}") from error
            self.hooked[name] = [path for path, count in _hooks(model).items() if count > before_hooks.get(path, 0)]
            if [name for name, _ in model.named_parameters()] != before:
                raise UserError(f"regularizer.{name} renamed or added parameters of the model, which is not allowed")
        self._kinds = dict(kinds_of(model))
        return model

    def check_selections(self, model: nn.Module) -> None:
        """Raise UserError if a member's ``where`` selects nothing of ``model``."""
        for name, member in self.named_regularizers():
            if isinstance(where := getattr(member, "where", None), str):
                try:
                    check_selection(model, where)
                except ValueError as error:
                    raise UserError(f"regularizer.{name}: {error}") from error

    def objective(self, loss: Loss) -> Objective:
        """Return the data loss wrapped by every member, the first innermost."""

        def task(model: nn.Module, batch: Batch) -> Outcome:
            outputs = model(batch.inputs)
            parts = [weighted(weight, loss(outputs, target)).mean() for weight, target in batch.targets]
            return Outcome({"task": parts[0] if len(parts) == 1 else torch.stack(parts).sum()}, outputs, batch.targets)

        wrapped: Objective = task
        for member in self._with("on_objective"):
            wrapped = member.on_objective(wrapped)
        return wrapped

    def penalties(self, weights: Mapping[str, Tensor], separable: bool | None = None) -> dict[str, Tensor]:
        """Return each penalty of the weights by its member's name, computed in at least float32.

        Args:
            separable: Only those of members that are (True), to be taken of parts of the weights
                and added up, or that are not (False), which want them whole; None: all.
        """
        members = [member for member in self._stepping["penalty"] if separable in (None, member.separable)]
        if not members:
            return {}
        wide = {name: weight.float() if weight.dtype.itemsize < 4 else weight for name, weight in weights.items()}
        full = Named(wide, self._kinds)
        penalties = {member.name: member.penalty(full) for member in members}
        # A 0-dim float64 strength lifts a 0-dim float32 sum to float64: the loss keeps the weights'
        # precision.
        dtype = next(iter(full.values())).dtype
        return {name: penalty.to(dtype) for name, penalty in penalties.items() if penalty is not None}

    def gradient(self, gradient: Gradient) -> Gradient:
        """Return ``gradient`` wrapped by every member, the first innermost."""
        for member in self._stepping["on_gradient"]:
            gradient = member.on_gradient(gradient)
        return gradient

    def before_step(self, model: nn.Module, lr: Mapping[str, Tensor]) -> None:
        for member in self._stepping["before_step"]:
            with torch.no_grad():
                member.before_step(model, lr)

    def after_step(self, model: nn.Module, step_size: Mapping[str, Tensor], averaged: nn.Module | None = None) -> None:
        """Call each member's ``on_step``.

        Args:
            model: What the optimizer moved.
            step_size: See ``Regularizer.on_step``.
            averaged: What averages are of, where that is more than ``model``.
        """
        for member in self._stepping["on_step"]:
            seen = model if averaged is None or not overrides(member, "evaluating") else averaged
            with torch.no_grad():
                member.on_step(seen, step_size)

    @torch.no_grad()
    def stop(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Return a 0-dim bool: whether any member wants training to stop."""
        answers = [member.on_validation(metrics) for member in self._with("on_validation")]
        wanted = [answer for answer in answers if answer is not None]
        return torch.stack(wanted).any() if wanted else torch.zeros((), dtype=torch.bool)

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """A context in which ``model`` has the weights that the run would be judged by."""
        with ExitStack() as stack:
            for member in self._with("evaluating"):
                stack.enter_context(member.evaluating(model))
            yield


def name_members(members: Sequence[Regularizer]) -> dict[str, Regularizer]:
    """Return the members by name: that of their file (``l1``), numbered from the second of a kind
    on (``l1_2``).

    Args:
        members: In their order of nesting.
    """
    counts: Counter[str] = Counter()
    named = {}
    for member in members:
        stem = type(member).__module__.rpartition(".")[2]
        stem = stem if type(member).__module__.startswith("reglab.") else type(member).__name__.lower()
        counts[stem] += 1
        named[stem if counts[stem] == 1 else f"{stem}_{counts[stem]}"] = member
    return named


def _hooks(model: nn.Module) -> dict[str, int]:
    return {path: len(it._forward_hooks) + len(it._forward_pre_hooks) for path, it in model.named_modules()}


def _check(members: Mapping[str, Regularizer], task: str) -> None:
    owners: dict[str, str] = {}
    for name, member in members.items():
        if not name.isidentifier() or name == "task" or hasattr(nn.ModuleDict, name):
            raise UserError(f"regularizer name {name!r}: use letters, digits and underscores, and no reserved word")
        if member.tasks is not None and task not in member.tasks:
            raise UserError(
                f"regularizer.{name} does not fit a {task} task; it fits: {', '.join(sorted(member.tasks))}"
            )
        for claim in sorted(member.claims):
            if claim in owners:
                what = claim.replace("_", " ")
                raise UserError(f"regularizers {owners[claim]} and {name} both own the {what}; keep one of them")
            owners[claim] = name

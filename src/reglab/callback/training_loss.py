"""Members that act on the loss of a user's ``training_step``: flooding, label smoothing, mixup."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from reglab.callback.batch_evaluation import Asked
from reglab.callback.dataloader_rows import pair_of, wide_labels
from reglab.core.errors import UserError
from reglab.distributed.collectives import mean_over_ranks
from reglab.measures import example_losses
from reglab.regularizers import Batch, Cocktail, Objective, Outcome, overrides
from reglab.regularizers.base import unit_weight, weighted
from reglab.tasks import Task
from reglab.training.term_sums import TermSums


class TrainingLoss:
    """Wraps losses by the members that read nothing but the loss, outputs and targets too, or that
    change the batch, as mixup does.

    Outputs are what ``module(inputs)`` gave while the loss was computed. Where the batch is
    changed, ``training_step`` gets the changed inputs, and the loss is the task's, of its outputs
    and the changed targets.

    Args:
        cocktail: The regularizers.
        module: That is trained.
        asked: How targets are unpacked, and the task by which outputs are judged.
        total: Adds up a sum over elements of the weights over the ranks that have shards.

    Attributes:
        changes_batch: Whether a member does, so that ``training_step`` runs inside the objective.
        expected: Whether the next call of ``training_step`` is Lightning's own, of a batch; a
            user's loss may call it too.
        terms: What each member added, in the steps since the last measurement.
    """

    def __init__(
        self,
        cocktail: Cocktail,
        module: pl.LightningModule,
        asked: Asked,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        named = {name: it for name, it in cocktail.named_regularizers() if overrides(it, "on_objective")}
        self._members = list(named.values())
        self._reader = next((name for name, member in named.items() if member.reads != "loss"), "")
        self.changes_batch = any(member.reads == "batch" for member in self._members)
        self._asked = asked
        self._outputs: list[Any] = []  # of module(inputs), since the last ``forget``
        self._checked = False
        self._module, self._keys = module, cocktail.keys
        self.expected = False
        self.terms = TermSums()
        several = distributed.is_available() and distributed.is_initialized()
        cocktail.bind(mean_over_ranks if several else None, total)

    def of(self, loss: Tensor, batch: Any) -> Outcome:
        """Return the objective of which ``loss``, 0-dim, is the data's part.

        Args:
            loss: Of the batch.
            batch: As ``training_step`` gets it.
        """
        outputs, targets = self._answers(loss, batch) if self._reader else (loss, [])

        def task(model: Any, batch: Any) -> Outcome:
            return Outcome({"task": loss}, outputs, targets)

        return self._wrapped(task)(self._module, batch)

    def stepped(self, step: Callable[[Any], Any], batch: Any) -> Any:
        """Return what ``training_step`` returned of a batch that members change, with the objective
        as its loss.

        Args:
            step: ``training_step`` of a batch.
            batch: Inputs and targets.
        """
        returned: list[Any] = []
        inputs, targets = pair_of(batch, self._asked.unpack)
        if not inputs.is_floating_point():
            raise UserError(f"{self._reader} changes inputs, which are {inputs.dtype}; let the loader give floats")

        def task(model: Any, given: Batch) -> Outcome:
            changed = given.inputs, given.targets[0][1]
            self.forget()
            returned.append(step(list(changed) if isinstance(batch, list) else changed))
            loss = loss_in(returned[0])
            if loss is None:
                raise _Skipped
            outputs, _ = self._answers(loss, changed)
            parts = [
                weighted(weight, example_losses(outputs, wide_labels(target, self._task), self._task)).mean()
                for weight, target in given.targets
            ]
            return Outcome({"task": torch.stack(parts).sum()}, outputs, given.targets)

        dtype, index = next(self._module.parameters()).dtype, self._keys.index
        index = torch.arange(len(inputs), device=inputs.device) if index is None else index
        try:
            outcome = self._wrapped(task)(
                self._module, Batch(inputs, [(unit_weight(dtype, inputs.device), targets)], index)
            )
        except _Skipped:
            return returned[0]
        return self._replaced(returned[0], outcome)

    def _wrapped(self, objective: Objective) -> Objective:
        for member in self._members:
            objective = member.on_objective(objective)
        return objective

    @property
    def _task(self) -> Task:
        assert self._asked.task is not None  # without one, such members are refused
        return self._asked.task

    def forget(self) -> None:
        """Forget earlier outputs of the module: another loss is computed."""
        self._outputs.clear()

    def _answers(self, loss: Tensor, batch: Any) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return what the module answered when the loss was computed, and the weighted targets."""
        task = self._task
        if len(self._outputs) != 1 or not isinstance(self._outputs[0], Tensor):
            raise UserError(
                f"{self._reader} reads the outputs of self(inputs), one tensor, which training_step must call once a "
                f"batch; it called it {len(self._outputs)} times"
            )
        outputs, targets = self._outputs[0], wide_labels(pair_of(batch, self._asked.unpack)[1], task)
        if not self._checked:
            self._checked = True
            wanted, returned = float(example_losses(outputs.detach(), targets, task).mean()), float(loss.detach())
            if abs(wanted - returned) > 1e-2 * max(abs(wanted), 1e-2):
                raise UserError(
                    f"{self._reader} takes training_step's loss for the mean {task.name} loss of self(inputs), which "
                    f"is {wanted:.6g} on the first batch, and training_step returned {returned:.6g}; train with "
                    "reglab.fit or `reglab train`"
                )
        self.forget()
        return outputs, [(unit_weight(loss.dtype, loss.device), targets)]

    def _note(self, module: Any, arguments: Any, outputs: Any) -> None:
        if module.training:
            self._outputs.append(outputs)

    @contextmanager
    def wrapped(self, check: Callable[[Tensor], None] | None = None) -> Iterator[None]:
        """A context in which ``training_step`` of the module returns the objective.

        Args:
            check: Called with the loss of each step.
        """
        if not self._members and check is None:
            yield
            return
        step = _Step(self, self._module, check)
        watch = [self._module.register_forward_hook(self._note)] if self._reader else []
        before = vars(self._module).get("training_step")
        self._module.training_step = step  # type: ignore[method-assign]  # of this object
        try:
            yield
        finally:
            for handle in watch:
                handle.remove()
            del self._module.training_step
            if before is not None:
                self._module.training_step = before  # type: ignore[method-assign]  # as it was

    def replaced(self, output: Any, batch: Any) -> Any:
        """Return what ``training_step`` returned of a batch, with the objective as its loss."""
        loss = loss_in(output)
        if loss is None or not self._members:
            return output
        return self._replaced(output, self.of(loss, batch))

    def _replaced(self, output: Any, outcome: Outcome) -> Any:
        added = {name: term.detach().reshape(1) for name, term in outcome.terms.items() if name != "task"}
        self.terms.add(added, [1])
        return {**output, "loss": outcome.loss} if isinstance(output, Mapping) else outcome.loss


def loss_in(output: Any) -> Tensor | None:
    """Return the loss in what a ``training_step`` returned; None where it skips the step."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    return loss if isinstance(loss, Tensor) else None


class _Skipped(Exception):  # noqa: N818 - no error: the module skips a step
    """``training_step`` returned no loss."""


class _Step:
    """A ``training_step`` with the objective; copies of the module have their own method itself."""

    def __init__(
        self, losses: TrainingLoss, module: pl.LightningModule, check: Callable[[Tensor], None] | None
    ) -> None:
        functools.update_wrapper(self, inspect.unwrap(module.training_step))  # Lightning reads its signature
        self._losses, self._module, self._check, self._step = losses, module, check, module.training_step

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._losses.expected:
            return self._step(*args, **kwargs)
        batch, *others = args  # as Lightning hands them over
        if self._losses.changes_batch:
            output = self._losses.stepped(lambda changed: self._step(changed, *others, **kwargs), batch)
            self._losses.expected = False
            return output
        self._losses.forget()
        output = self._step(*args, **kwargs)
        self._losses.expected = False
        loss = loss_in(output)
        if self._check is not None and loss is not None:
            self._check(loss)
        return self._losses.replaced(output, batch)

    def __reduce__(self) -> Any:
        return getattr, (self._module, "training_step")

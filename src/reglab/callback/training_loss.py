"""Members that act on the loss which a user's ``training_step`` returns, such as flooding."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, distributed

from reglab.distributed.collectives import mean_over_ranks
from reglab.regularizers import Cocktail, Objective, Outcome, overrides
from reglab.training.term_sums import TermSums


class TrainingLoss:
    """Wraps losses by the members that ask for nothing but the loss.

    Args:
        cocktail: The regularizers.
        module: That is trained.

    Attributes:
        expected: Whether the next call of ``training_step`` is Lightning's own, of a batch; a
            user's loss may call it too.
        terms: What each member added, in the steps since the last measurement.
    """

    def __init__(self, cocktail: Cocktail, module: pl.LightningModule) -> None:
        self._members = [member for _, member in cocktail.named_regularizers() if overrides(member, "on_objective")]
        self._module = module
        self.expected = False
        self.terms = TermSums()
        several = distributed.is_available() and distributed.is_initialized()
        cocktail.bind(mean_over_ranks if several else None)

    def of(self, loss: Tensor) -> Outcome:
        """Return the objective of which ``loss``, 0-dim, is the data's part."""

        def task(model: Any, batch: Any) -> Outcome:
            return Outcome({"task": loss}, loss)

        objective: Objective = task
        for member in self._members:
            objective = member.on_objective(objective)
        return objective(self._module, None)  # type: ignore[arg-type]  # of_loss says that no member reads the batch

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
        before = vars(self._module).get("training_step")
        self._module.training_step = step  # type: ignore[method-assign]  # of this object
        try:
            yield
        finally:
            del self._module.training_step
            if before is not None:
                self._module.training_step = before  # type: ignore[method-assign]  # as it was

    def replaced(self, output: Any) -> Any:
        """Return what ``training_step`` returned, with the objective as its loss."""
        loss = loss_in(output)
        if loss is None or not self._members:
            return output
        outcome = self.of(loss)
        added = {name: term.detach().reshape(1) for name, term in outcome.terms.items() if name != "task"}
        self.terms.add(added, [1])
        return {**output, "loss": outcome.loss} if isinstance(output, Mapping) else outcome.loss


def loss_in(output: Any) -> Tensor | None:
    """Return the loss in what a ``training_step`` returned; None where it skips the step."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    return loss if isinstance(loss, Tensor) else None


class _Step:
    """A ``training_step`` with the objective; copies of the module have their own method itself."""

    def __init__(
        self, losses: TrainingLoss, module: pl.LightningModule, check: Callable[[Tensor], None] | None
    ) -> None:
        functools.update_wrapper(self, inspect.unwrap(module.training_step))  # Lightning reads its signature
        self._losses, self._module, self._check, self._step = losses, module, check, module.training_step

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self._step(*args, **kwargs)
        if not self._losses.expected:
            return output
        self._losses.expected = False
        loss = loss_in(output)
        if self._check is not None and loss is not None:
            self._check(loss)
        return self._losses.replaced(output)

    def __reduce__(self) -> Any:
        return getattr, (self._module, "training_step")

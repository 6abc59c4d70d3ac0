"""Gradients at other weights, by a user's loss: what SAM needs of somebody else's training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from reglab.callback.batch_evaluation import BatchLoss, own_losses, without_log
from reglab.callback.fixed_batches import rows_in
from reglab.callback.training_loss import TrainingLoss
from reglab.core.errors import UserError
from reglab.distributed.collectives import mean_over_ranks
from reglab.regularizers import Cocktail, Outcome
from reglab.training.gradient import buffers_preserved

_CLOSE = 1e-2  # relative; half precision rounds two ways of computing a loss apart


class SecondGradient:
    """Replaces the gradient of a step by what the members make of it and of gradients at other
    weights.

    Those are of ``loss(module, batch)``, over the microbatches of the step, with the draws that
    ``training_step`` had. Only the first pass moves BatchNorm's statistics.

    Args:
        trainer: During a fit.
        module: That is trained.
        cocktail: The regularizers.
        loss: The user's; its mean must be what ``training_step`` returns.
        objective: Of the members that act on the loss.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        cocktail: Cocktail,
        loss: BatchLoss,
        objective: TrainingLoss,
    ) -> None:
        self._trainer, self._module, self._cocktail = trainer, module, cocktail
        self._loss, self._objective = loss, objective
        self._seen: list[_Microbatch] = []
        self._weights: Mapping[str, Tensor] = {}
        self._expected: float | None = None  # the loss of the first batch
        self._checked = False

    def begin_batch(self, batch: Any, first: bool) -> None:
        """Remember a batch that is about to be trained on.

        Args:
            batch: As ``training_step`` gets it.
            first: Whether a step begins with it.
        """
        if first:
            self._seen = []
        device = self._module.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._seen.append(_Microbatch(batch, self._cocktail.keys.index, torch.get_rng_state(), cuda))
        if self._expected is None:  # before the forward pass: it keeps buffers, which none may write until its backward
            context = self._trainer.precision_plugin.train_step_context()
            with torch.no_grad(), buffers_preserved(self._module.modules()), context:
                self._expected = float(self._loss_of(self._seen[-1]))

    def check(self, returned: Tensor) -> None:
        """Compare the loss of the first batch with what ``training_step`` returned for it.

        Raises:
            UserError: If the two differ.
        """
        if self._checked or self._expected is None:
            return
        self._checked = True
        own, wanted = self._expected, float(returned.detach())
        if abs(own - wanted) > _CLOSE * max(abs(own), _CLOSE):
            raise UserError(
                f"loss= gives {own:.6g} on the first batch, where training_step returned {wanted:.6g}; a second "
                "gradient of another loss would train something else: let loss give what training_step trains on"
            )

    def apply(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the gradients of ``weights``, which are whole: penalties added, averaged over
        ranks.

        Args:
            weights: Those that the optimizer holds, by name.
        """
        self._weights = weights
        gradients, _ = self._cocktail.gradient(self._at)()
        for name, gradient in gradients.items():
            weights[name].grad = gradient.clone()

    def _at(self, offset: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        """The contract's ``gradient``; at the weights themselves it is known."""
        if offset is None:
            known = {name: weight.grad for name, weight in self._weights.items() if weight.grad is not None}
            return known, Outcome({}, torch.zeros(()))
        with _perturbed(self._weights, offset), buffers_preserved(self._module.modules()), torch.enable_grad():
            return self._compute(), Outcome({}, torch.zeros(()))

    def _compute(self) -> dict[str, Tensor]:
        trained = {name: weight for name, weight in self._weights.items() if weight.requires_grad}
        sums: dict[str, Tensor] = {}
        for number, microbatch in enumerate(self._seen):
            with self._trainer.precision_plugin.train_step_context():
                loss = (
                    self._objective.of(self._loss_of(microbatch), microbatch.batch).loss
                    / self._trainer.accumulate_grad_batches
                )
            if number == len(self._seen) - 1:
                loss = torch.stack([loss, *self._penalties(trained, loss)]).sum()
            found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            for name, gradient in zip(trained, found, strict=True):
                if gradient is not None:
                    sums[name] = gradient if name not in sums else sums[name] + gradient
        # Penalties are the same on every rank, so the mean leaves them as they are.
        return {name: mean_over_ranks(it) for name, it in sums.items()} if self._trainer.world_size > 1 else sums

    def _penalties(self, weights: Mapping[str, Tensor], loss: Tensor) -> list[Tensor]:
        return [penalty.to(loss.dtype) for penalty in self._cocktail.penalties(weights).values()]

    def _loss_of(self, microbatch: "_Microbatch") -> Tensor:
        """Return the mean loss of a microbatch, with the draws that ``training_step`` had."""
        device, keys = self._module.device, self._cocktail.keys
        with torch.random.fork_rng([device] if microbatch.cuda is not None else []), without_log(self._module):
            torch.set_rng_state(microbatch.cpu)
            if microbatch.cuda is not None:
                torch.cuda.set_rng_state(microbatch.cuda, device)
            keys.at(microbatch.examples)
            self._objective.forget()
            losses = self._loss(self._module, microbatch.batch)
            keys.begin()
            return own_losses(losses, microbatch.batch, rows_in(microbatch.batch)).mean()


class _Microbatch(NamedTuple):
    """A batch, and where random draws stood before it."""

    batch: Any
    examples: Tensor | None
    cpu: Tensor
    cuda: Tensor | None


@contextmanager
def _perturbed(weights: Mapping[str, Tensor], offset: Mapping[str, Tensor]) -> Iterator[None]:
    """Temporarily perturb weights by ``offset``; they are restored bit for bit."""
    original = {name: weights[name].detach().clone() for name in offset}
    with torch.no_grad():
        for name, step in offset.items():
            weights[name].add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in original.items():
                weights[name].copy_(weight)

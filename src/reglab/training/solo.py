"""One job as a Lightning module: the cocktail's hooks around an ordinary optimizer step."""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.data import Part
from reglab.errors import Diverged
from reglab.measures import Task, example_losses
from reglab.regularizers import Batch, Cocktail, Outcome
from reglab.training.loader import Steps
from reglab.training.ranks import mean_over_ranks
from reglab.training.recipe import Recipe
from reglab.training.step_size import LearningRates, StepSizes


class Solo(pl.LightningModule):
    """Trains ``model`` under ``cocktail`` on the rows of ``train``; a Lightning batch is a chunk of optimizer steps.

    Optimization is manual, since SAM needs two gradients a step, a chunk carries many steps, and proximal steps follow
    the update at once. All that a resumed run needs is in the state dict: weights, buffers, numbers, step count.
    """

    def __init__(self, model: nn.Module, cocktail: Cocktail, train: Part, task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.cocktail = cocktail
        self.model = cocktail.prepare(model)
        self.recipe = recipe
        self.train_part = train
        self.weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self._objective = cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, task))
        self._gradient = cocktail.gradient(self._plain_gradient)
        self.terms: dict[str, Tensor] = {}
        self.rows_seen = 0
        self.last_lr = math.nan

    def loader(self, ranks: int = 1) -> Steps:
        """Return the batches of an epoch, from where training stands."""
        recipe, keys = self.recipe, self.cocktail.keys
        return Steps(
            len(self.train_part),
            recipe.batch_size,
            int(keys.seed),
            recipe.steps_per_batch,
            lambda: int(keys.step),
            ranks,
        )

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.build_optimizer(self.weights.values())
        self._steps_per_epoch = self.loader(self.trainer.world_size).per_epoch
        scheduled = self.recipe.build_scheduler(optimizer, self._steps_per_epoch)
        self._by_step = scheduled is not None and scheduled[1]
        return {"optimizer": optimizer, "lr_scheduler": scheduled[0]} if scheduled else optimizer

    def on_fit_start(self) -> None:
        kind = next((weight.dtype for weight in self.weights.values() if weight.is_floating_point()), torch.float32)
        part = self.train_part.to(self.device)
        self._inputs, self._targets, self._index = part.inputs.to(kind), part.targets, part.index
        self._targets = self._targets.to(kind) if self._targets.is_floating_point() else self._targets
        even = bool((part.weights == 1).all())
        self._example_weights = None if even else part.weights.to(kind)
        self._statistics = list(self.model.buffers())  # here: moving the module to its device replaces them
        self._one = torch.ones((), dtype=kind, device=self.device)
        self._optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]  # one, not a list
        # One device without a gradient scaler: Lightning's wrappers of backward and step would only add their cost.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self._direct = isinstance(self.trainer.strategy, SingleDeviceStrategy) and not scaled
        self.cocktail.bind(mean_over_ranks if self.trainer.world_size > 1 else None)
        self.cocktail.to(self.device)
        rates, sizes = LearningRates(self.model, self._optimizer), StepSizes(self.model, self._optimizer)
        self._hooks = [
            self._optimizer.register_step_pre_hook(lambda *_: self.cocktail.before_step(self.model, rates)),
            self._optimizer.register_step_post_hook(lambda *_: self.cocktail.after_step(self.model, sizes)),
        ]

    def on_fit_end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        seen: dict[str, list[Tensor]] = defaultdict(list)
        first = int(self.cocktail.keys.step)
        for rows in chunk:
            outcome = self._step(rows)
            for name, term in outcome.terms.items():
                seen[name].append(term.detach() * len(rows))
        self.cocktail.keys.index = None
        self._account({name: torch.stack(values) for name, values in seen.items()}, chunk, first)

    def _step(self, rows: Tensor) -> Outcome:
        """Take one optimizer step on ``rows`` of the training part."""
        rows = rows.chunk(self.trainer.world_size)[self.global_rank] if self.trainer.world_size > 1 else rows
        weight = self._one if self._example_weights is None else self._example_weights[rows]
        self._batch = Batch(self._inputs[rows], [(weight, self._targets[rows])], self._index[rows])
        self.cocktail.keys.index = self._batch.index
        self._forwards = 0
        slopes, outcome = self._gradient()
        if self.cocktail.wraps_gradient:
            for name, slope in slopes.items():
                self.weights[name].grad = slope
        self._update()
        self.cocktail.keys.step.add_(1)
        self._schedule()
        return outcome

    def _plain_gradient(self, offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        """The contract's ``gradient``: of the whole objective, at the weights or beside them by ``offset``."""
        for weight in self.weights.values():
            weight.grad = None
        with self._beside(offset), self._first_forward_only():
            outcome = self._objective(self.model, self._batch)
            for name, penalty in self.cocktail.penalties(self.weights).items():
                outcome = outcome.plus(name, penalty)
            if self._direct:
                torch.autograd.backward(outcome.loss)
            else:
                self.manual_backward(outcome.loss)
        if not self.cocktail.wraps_gradient:
            return {}, outcome
        return {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}, outcome

    def _update(self) -> None:
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self.recipe.clip)
        if not self._direct:
            self.optimizers().step()  # type: ignore[union-attr]  # one optimizer, not a list
            return
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        self._optimizer.step()
        progress.increment_completed()

    def _schedule(self) -> None:
        self.last_lr = self._optimizer.param_groups[0]["lr"]
        scheduler = self.lr_schedulers()
        if scheduler is not None and (self._by_step or int(self.cocktail.keys.step) % self._steps_per_epoch == 0):
            scheduler.step()  # type: ignore[union-attr]  # one scheduler, not a list

    @contextmanager
    def _beside(self, offset: dict[str, Tensor] | None) -> Iterator[None]:
        if offset is None:
            yield
            return
        saved = {name: self.weights[name].detach().clone() for name in offset}
        with torch.no_grad():
            for name, step in offset.items():
                self.weights[name].add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in saved.items():
                    self.weights[name].copy_(weight)

    @contextmanager
    def _first_forward_only(self) -> Iterator[None]:
        """Let only a step's first forward move buffers: SAM's second one must not move BatchNorm's statistics."""
        self._forwards += 1
        saved = [buffer.clone() for buffer in self._statistics] if self._forwards > 1 else None
        yield
        for buffer, value in zip(self._statistics, saved or (), strict=False):
            buffer.copy_(value)

    def _account(self, seen: dict[str, Tensor], chunk: list[Tensor], first: int) -> None:
        """Add a chunk's terms to the epoch's, and raise Diverged if its loss stopped being finite."""
        finite = torch.isfinite(torch.stack(list(seen.values())).sum(0))
        if not bool(finite.all()):
            step = first + int(finite.logical_not().to(torch.uint8).argmax())
            raise Diverged(step, step // self._steps_per_epoch + 1, self._optimizer.param_groups[0]["lr"])
        for name, values in seen.items():
            self.terms[name] = self.terms.get(name, 0) + values.sum()
        self.rows_seen += sum(len(rows) for rows in chunk)

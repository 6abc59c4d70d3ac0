"""One job as a Lightning module: the cocktail's hooks around an ordinary optimizer step."""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab import draws, signals
from reglab.data import Part
from reglab.errors import Diverged
from reglab.measures import Task, example_losses
from reglab.regularizers import Batch, Cocktail, Outcome
from reglab.training.loader import Steps
from reglab.training.position import forget_loops, go_on
from reglab.training.ranks import max_over_ranks, mean_over_ranks
from reglab.training.recipe import Recipe
from reglab.training.step_size import LearningRates, StepSizes
from reglab.training.term_sums import TermSums


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
        self._now = _Step()
        self.terms = TermSums()
        self.interrupted: int | None = None  # the number of the signal that asked to end after this step

    @property
    def last_lr(self) -> float:
        """The learning rate of the last optimizer step."""
        return self._now.lr

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
        self._seed = int(self.cocktail.keys.seed)
        self._statistics = list(self.model.buffers())  # here: moving the module to its device replaces them
        self._one = torch.ones((), dtype=kind, device=self.device)
        self._optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]  # one, not a list
        # One device without a gradient scaler: Lightning's wrappers of backward and step would only add their cost.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self._direct = isinstance(self.trainer.strategy, SingleDeviceStrategy) and not scaled
        # Asked once: some of these take microseconds, and a step is a few hundred.
        self._ranks, self._rank, self._scheduler = self.trainer.world_size, self.global_rank, self.lr_schedulers()
        self._progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        self.cocktail.bind(mean_over_ranks if self._ranks > 1 else None)
        self.cocktail.to(self.device)
        rates, sizes = LearningRates(self.model, self._optimizer), StepSizes(self.model, self._optimizer)
        self._hooks = [
            self._optimizer.register_step_pre_hook(lambda *_: self.cocktail.before_step(self.model, rates)),
            self._optimizer.register_step_post_hook(lambda *_: self.cocktail.after_step(self.model, sizes)),
        ]

        go_on(self.trainer, int(self.cocktail.keys.step), self._steps_per_epoch)

    def on_fit_end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["terms"], checkpoint["last_lr"] = self.terms.state_dict(), self.last_lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        forget_loops(checkpoint)
        if "terms" in checkpoint:  # not where it was a member of a pack, which ends with an epoch
            self.terms.load_state_dict(checkpoint["terms"])
            self._now.lr = checkpoint["last_lr"]

    @property
    def inside_epoch(self) -> bool:
        """Whether some steps of the present epoch are still to be taken."""
        return int(self.cocktail.keys.step) % self._steps_per_epoch > 0

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        seen: dict[str, list[Tensor]] = defaultdict(list)
        first = int(self.cocktail.keys.step)
        taken, rates = [], []
        for self._now.step, rows in enumerate(chunk, first):
            for name, term in self._step(rows).terms.items():
                seen[name].append(term.detach())
            taken.append(len(rows))
            rates.append(self.last_lr)
            if self._asked_to_end():
                break
        self.cocktail.keys.index = None
        self._account({name: torch.stack(values) for name, values in seen.items()}, taken, rates, first)

    def _asked_to_end(self) -> bool:
        asked = signals.asked() or 0
        if self._ranks > 1:  # whichever rank the signal came to, all end after the same step
            asked = int(max_over_ranks(torch.tensor(asked, device=self.device)))
        self.interrupted = asked or None
        return asked > 0

    def _step(self, rows: Tensor) -> Outcome:
        """Take one optimizer step on ``rows`` of the training part."""
        rows = rows.chunk(self._ranks)[self._rank] if self._ranks > 1 else rows
        weight = self._one if self._example_weights is None else self._example_weights.index_select(0, rows)
        index = self._index.index_select(0, rows)
        targets = [(weight, self._targets.index_select(0, rows))]
        self._now.batch = Batch(self._inputs.index_select(0, rows), targets, index)
        self._now.forwards = 0
        keys = self.cocktail.keys
        keys.index = index
        if self.cocktail.wraps_gradient:
            slopes, outcome = self._gradient()
            for name, slope in slopes.items():
                self.weights[name].grad = slope
        else:
            outcome = self._backward()
        self._update()
        keys.step.add_(1)
        self._schedule()
        return outcome

    def _plain_gradient(self, offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        """The contract's ``gradient``: of the whole objective, at the weights or beside them by ``offset``."""
        with self._beside(offset), self._first_forward_only():
            outcome = self._backward()
        return {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}, outcome

    def _backward(self) -> Outcome:
        """Return the whole objective of this step's batch, its gradient left in the weights."""
        self.cocktail.keys.begin()
        self._seed_generators()
        for weight in self.weights.values():
            weight.grad = None
        outcome = self._objective(self.model, self._now.batch)
        for name, penalty in self.cocktail.penalties(self.weights).items():
            outcome = outcome.plus(name, penalty)
        if self._direct:
            torch.autograd.backward(outcome.loss)
        else:
            self.manual_backward(outcome.loss)
        return outcome

    def _seed_generators(self) -> None:
        """Seed torch's generators by (seed, step, rank), for draws inside the model that are not ours.

        An LSTM's dropout, ``F.dropout``: resumed runs then draw what they would have drawn, as does SAM's second pass.
        """
        number = draws.integer_key(self._seed, self._now.step, self._rank)
        torch.default_generator.manual_seed(number)
        if self._index.is_cuda:
            torch.cuda.manual_seed(number)

    def _update(self) -> None:
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self.recipe.clip)
        if not self._direct:
            self.optimizers().step()  # type: ignore[union-attr]  # one optimizer, not a list
            return
        self._progress.increment_ready()
        self._optimizer.step()
        self._progress.increment_completed()

    def _schedule(self) -> None:
        self._now.lr = self._optimizer.param_groups[0]["lr"]
        if self._scheduler is None:
            return
        if self._by_step or int(self.cocktail.keys.step) % self._steps_per_epoch == 0:
            self._scheduler.step()  # type: ignore[union-attr]  # one scheduler, not a list

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
        self._now.forwards += 1
        saved = [buffer.clone() for buffer in self._statistics] if self._now.forwards > 1 else None
        yield
        for buffer, value in zip(self._statistics, saved or (), strict=False):
            buffer.copy_(value)

    def _account(self, seen: dict[str, Tensor], rows: list[int], rates: list[float], first: int) -> None:
        """Add a chunk's terms, each [steps], to the epoch's, and raise Diverged if its loss stopped being finite."""
        table = torch.stack(list(seen.values()))
        if self._ranks > 1:  # a rank that stopped by itself would leave the others waiting
            table = mean_over_ranks(table)
        if not math.isfinite(float(table.sum())):  # one look at the device; finite numbers may have an infinite sum
            finite = torch.isfinite(table.sum(0))
            if not bool(finite.all()):
                step = first + int(finite.logical_not().to(torch.uint8).argmax())
                raise Diverged(step, step // self._steps_per_epoch + 1, rates[step - first])
        self.terms.add(dict(zip(seen, table, strict=True)), rows)


@dataclass
class _Step:
    """What changes with every step. Kept outside the module, whose own attributes are slow to set."""

    batch: Batch = field(init=False)
    step: int = 0
    forwards: int = 0
    lr: float = math.nan

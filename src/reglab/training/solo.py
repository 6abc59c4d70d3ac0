"""LightningModule of a job that trains alone: a cocktail's hooks around an optimizer step."""

import math
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from reglab.core import signals
from reglab.core.errors import UserError
from reglab.data import Part
from reglab.distributed.collectives import SignalAgreement, mean_over_ranks
from reglab.distributed.module_blocks import matching
from reglab.distributed.sharded_module import Shardable
from reglab.distributed.sync_batchnorm import synchronize_batchnorm
from reglab.distributed.unused_parameters import unreached
from reglab.measures import Task, example_losses
from reglab.regularizers import Batch, Cocktail, Objective, Outcome
from reglab.regularizers.base import unit_weight
from reglab.regularizers.keys import Keys
from reglab.training.activation_checkpointing import recompute
from reglab.training.execution_settings import Engine
from reglab.training.finite import Finite
from reglab.training.gradient import Gradient, Means, Microbatch
from reglab.training.loader import Steps, share
from reglab.training.loop_position import drop_loop_state, resume_loops
from reglab.training.recipe import Recipe
from reglab.training.sparse_gradients import takes_sparse, with_dense_gradients
from reglab.training.step_size import LearningRates, StepSizes
from reglab.training.term_sums import TermSums
from reglab.training.torch_compile import compile_inner


class Solo(Shardable):
    """Trains ``model`` under ``cocktail`` on the rows of ``train``; a Lightning batch is a chunk of
    optimizer steps.

    Optimization is manual, since SAM needs two gradients a step, a chunk carries many steps, and
    proximal steps follow the update at once. All that a resumed run needs is in the state dict:
    weights, buffers, numbers, step count.
    """

    def __init__(
        self,
        model: nn.Module,
        cocktail: Cocktail,
        train: Part,
        task: Task,
        recipe: Recipe,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(model, cocktail)
        self.automatic_optimization = False
        self.recipe = recipe
        self.engine = engine or Engine()
        self.train_part, self._task = train, task
        self.terms = TermSums()
        self.interrupted: int | None = None  # the number of the signal that asked to end after this step
        self._state = _StepState()

    def loader(self) -> Steps:
        """Return the batches of an epoch, from where training stands."""
        rows, seed = self.recipe.batch_size * self.engine.accumulate, int(self.cocktail.keys.seed)
        chunk = self.recipe.steps_per_batch
        return Steps(len(self.train_part), rows, seed, chunk, lambda: int(self.cocktail.keys.step))

    def configure_model(self) -> None:
        """Make sparse gradients dense where needed; set DDP's ``find_unused_parameters`` where
        weights get no gradient.
        """
        strategy = self.trainer.strategy
        plain = takes_sparse(self.recipe.build_optimizer([nn.Parameter(torch.zeros(1))]))
        if not plain or self.recipe.clip or self.cocktail.wraps_gradient or self.trainer.world_size > 1:
            self._undo.append(with_dense_gradients(self.model))
        if not isinstance(strategy, DDPStrategy):
            return
        dtype, part = next(iter(self.local_parameters.weights.values())).dtype, self.train_part
        targets = [(torch.ones((), dtype=dtype), _cast(part.targets[:2], dtype))]
        batch = Batch(_cast(part.inputs[:2], dtype), targets, part.index[:2])
        if unreached(self.model.cpu(), self._objective(), self.cocktail.cpu(), batch):
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def _objective(self) -> Objective:
        return self.cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, self._task))

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.build_optimizer(self.local_parameters.weights.values())
        self._steps_per_epoch = self.loader().per_epoch
        scheduled = self.recipe.build_scheduler(optimizer, self._steps_per_epoch)
        self._by_step = scheduled is not None and scheduled[1]
        return {"optimizer": optimizer, "lr_scheduler": scheduled[0]} if scheduled else optimizer

    def on_fit_start(self) -> None:
        dtype = next(
            (weight.dtype for weight in self.local_parameters.weights.values() if weight.is_floating_point()),
            torch.float32,
        )
        part = self.train_part.to(self.device)
        self._inputs, self._targets = (_cast(values, dtype) for values in (part.inputs, part.targets))
        self._index = part.index
        self._example_weights = None if bool((part.weights == 1).all()) else part.weights.to(dtype)
        self._one = unit_weight(dtype, self.device)
        self._state.step = int(self.cocktail.keys.step)
        self._ranks, self._rank = self.trainer.world_size, self.global_rank
        self._optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]  # one, not a list
        self._scheduler = self.lr_schedulers()  # asked once: it takes microseconds, and a step is a few hundred
        self._progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        self._scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self._mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        self._finite = Finite(self._steps_per_epoch, late=self.device.type == "cuda")
        self._agreement = SignalAgreement(self._ranks, signals.stop_signal)
        if not self.sharded:
            self.change_layers()
        self._undo.append(compile_inner(self.model, self.engine.compile, self.cocktail.keys))
        self._bind()
        if isinstance(self.trainer.strategy, DDPStrategy):
            self._fix_reduction_order()
        resume_loops(self.trainer, self._state.step, self._steps_per_epoch)

    def change_layers(self) -> None:
        """Set up SyncBatchNorm and activation checkpointing."""
        ranks, least = self.trainer.world_size, self.loader().least
        if least < 2 * ranks and not self.engine.sync_batchnorm and _has_batchnorm(self.model):
            raise UserError(
                f"trainer.sync_batchnorm=false: a step of an epoch has {least} rows, and BatchNorm needs 2 on each of "
                f"{ranks} devices; use trainer.sync_batchnorm=true, or another data.batch_size"
            )
        if self.trainer.world_size > 1 and self.engine.sync_batchnorm:
            self._undo.append(synchronize_batchnorm(self.model, lambda: self._gradient.is_padding))
        if self.engine.activation_checkpointing:
            blocks = matching(self.model, self.engine.activation_checkpointing, "trainer.activation_checkpointing")
            self._undo.append(recompute([module for _, module in blocks], self.cocktail.keys))

    def _bind(self) -> None:
        """Wrap the gradient in the cocktail's hooks, and register those around the
        optimizer step.
        """
        cocktail, parameters = self.cocktail, self.local_parameters
        cocktail.to(self.device)
        means = Means(self._ranks)
        cocktail.bind(means if self._ranks * self.engine.accumulate > 1 else None, parameters.total)
        self._gradient = Gradient(
            parameters,
            self._objective(),
            cocktail,
            means,
            self.trainer.precision_plugin.forward_context if self._mixed else nullcontext,
            self._ddp_backward if isinstance(self.trainer.strategy, DDPStrategy) else self._plain_backward,
            self._rank,
        )
        self._whole_gradient = cocktail.gradient(self._gradient.compute_at)
        rates = LearningRates(parameters.hook_target, self._optimizer)
        sizes = self._sizes = StepSizes(parameters.hook_target, self._optimizer, parameters.total)
        optimizer = self._optimizer
        if cocktail.has("before_step"):
            before = optimizer.register_step_pre_hook(lambda *_: cocktail.before_step(parameters.hook_target, rates))
            self._undo.append(before.remove)
        if cocktail.has("on_step"):
            after = optimizer.register_step_post_hook(lambda *_: cocktail.after_step(parameters.hook_target, sizes))
            self._undo.append(after.remove)
        self._state.keys, self._state.wraps = cocktail.keys, cocktail.wraps_gradient

    def _fix_reduction_order(self) -> None:
        """Let DDP fix its bucket order by a gradient that is discarded.

        It does so after its first backward pass; a resumed run would otherwise round that pass
        unlike an uninterrupted one.
        """
        rows = torch.arange(min(len(self._index), 2 * self._ranks), device=self.device)
        self._gradient.warm_up([self._microbatch(*share(rows, self._rank, self._ranks))], self._state.step)

    def on_fit_end(self) -> None:
        self.unshard()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["terms"], checkpoint["last_lr"] = self.terms.state_dict(), self.last_lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_loop_state(checkpoint)
        self.cocktail.complete(checkpoint["state_dict"])
        if "terms" in checkpoint:  # not where it was a member of a pack, which ends with an epoch
            self.terms.load_state_dict(checkpoint["terms"])
            self._state.lr = checkpoint["last_lr"]

    @property
    def last_lr(self) -> float:
        """The learning rate of the last optimizer step."""
        return self._state.lr

    @property
    def inside_epoch(self) -> bool:
        """Whether some steps of the present epoch are still to be taken."""
        return self._state.step % self._steps_per_epoch > 0

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        # Lightning's autocast covers the whole chunk; penalties and updates are not to be computed
        # in half precision.
        with torch.autocast(self.device.type, enabled=False) if self._mixed else nullcontext():
            self._train(chunk)

    def _train(self, chunk: list[Tensor]) -> None:
        terms: dict[str, list[Tensor]] = defaultdict(list)
        row_counts, rates, first, signal = [], [], self._state.step, None
        for rows in chunk:
            for name, term in self._step(rows).terms.items():
                terms[name].append(term.detach())
            row_counts.append(rows.shape[0])
            rates.append([self._state.lr])
            signal = self._agreement.agreed_signal(last=len(row_counts) == len(chunk))
            if signal:
                break
        self.interrupted = signal
        self.cocktail.keys.at(None)
        table = torch.stack([torch.stack(values) for values in terms.values()])
        table = mean_over_ranks(table) if self._ranks > 1 else table
        failed = self._finite.check(table.unsqueeze(-1), first, rates)
        if self.interrupted or not self.inside_epoch:
            failed = self._finite.flush() | failed
        for error in failed.values():
            raise error
        self.terms.add(dict(zip(terms, table, strict=True)), row_counts)
        if self._ranks > 1 and not self.engine.sync_batchnorm:
            for buffer in [*self.model.buffers(), *self.cocktail.averaged_statistics()]:
                distributed.broadcast(buffer, src=0)  # so that one model is measured and saved

    def _step(self, rows: Tensor) -> Outcome:
        """Take one optimizer step on ``rows`` of the training part."""
        gradient, state = self._gradient, self._state
        gradient.begin(self._microbatches(rows), state.step)
        if state.wraps:
            gradients, outcome = self._whole_gradient()
            for name, grad in gradients.items():
                self.local_parameters.weights[name].grad = grad
        else:
            outcome = gradient.compute()
        self._update()
        state.keys.step.add_(1)
        state.step += 1
        self._schedule()
        return outcome

    def _microbatches(self, rows: Tensor) -> list[Microbatch]:
        """Return the microbatches of a step: fewer of a short one, so that BatchNorm has two rows
        in each (on each rank).
        """
        if self.engine.accumulate == 1 and self._ranks == 1:
            return [self._microbatch(rows, 1.0)]
        least = 2 if self.engine.sync_batchnorm else 2 * self._ranks
        count = rows.shape[0]
        microbatches = max(1, min(self.engine.accumulate, -(-count // self.recipe.batch_size), count // least))
        batches = []
        for index in range(microbatches):
            # By microbatch first, so that it is the same on any number of ranks.
            joint, share_of_step = share(rows, index, microbatches)
            local_rows, share_of_microbatch = share(joint, self._rank, self._ranks)
            batches.append(self._microbatch(local_rows, share_of_step * share_of_microbatch))
        return batches

    def _microbatch(self, rows: Tensor, factor: float) -> Microbatch:
        """Return rows that count ``factor`` in the mean over a step's microbatches and ranks."""
        weight = self._one if self._example_weights is None else self._example_weights.index_select(0, rows)
        targets = [(weight if factor == 1 else weight * factor, self._targets.index_select(0, rows))]
        return Microbatch(
            Batch(self._inputs.index_select(0, rows), targets, self._index.index_select(0, rows)), factor == 0
        )

    def _plain_backward(self, loss: Tensor, last: bool) -> None:
        # Not manual_backward: Lightning's wrappers would only add their cost.
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))

    def _ddp_backward(self, loss: Tensor, last: bool) -> None:
        """Differentiate under DDP, which averages the gradient over ranks in the last
        microbatch.
        """
        wrapped: Any = self.trainer.strategy.model
        wrapped.require_backward_grad_sync = last
        self.manual_backward(loss)
        wrapped.require_backward_grad_sync = False

    def _update(self) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self._sizes.begin(1.0 if self.recipe.clip is None else self.local_parameters.clip(self.recipe.clip))
        self._progress.increment_ready()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)  # not where a gradient is not finite: then no hook runs either
            self._scaler.update()
        self._progress.increment_completed()

    def _schedule(self) -> None:
        self._state.lr = self._optimizer.param_groups[0]["lr"]
        if self._scheduler is None:
            return
        if self._by_step or not self.inside_epoch:
            self._scheduler.step()  # type: ignore[union-attr]  # one scheduler, not a list


@dataclass
class _StepState:
    """State that changes with every step, kept outside the module, whose own attributes are slow to
    set.

    step: as ``keys.step``, which may be on a device that is not to be waited for. keys: the
    cocktail's. wraps: whether a member wraps the gradient.
    """

    step: int = 0
    lr: float = math.nan
    keys: Keys = field(default_factory=lambda: Keys(0))
    wraps: bool = False


def _has_batchnorm(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values

"""LightningModule of a job that trains alone: a cocktail's hooks around an optimizer step."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from reglab.core import signals
from reglab.core.errors import Diverged, UserError
from reglab.data import DataSet, Part
from reglab.distributed.collectives import SignalAgreement, mean_over_ranks
from reglab.distributed.module_blocks import matching
from reglab.distributed.sharded_module import Shardable
from reglab.distributed.sync_batchnorm import has_batchnorm, synchronize_batchnorm
from reglab.distributed.unused_parameters import unreached
from reglab.measures import MeasureSettings, example_losses
from reglab.regularizers import Batch, Cocktail, Objective, Outcome
from reglab.regularizers.keys import Keys
from reglab.tasks import Task
from reglab.training.activation_checkpointing import recompute
from reglab.training.execution_settings import Engine
from reglab.training.finite import Finite
from reglab.training.gradient import Gradient, Means
from reglab.training.loader import Steps
from reglab.training.loop_position import drop_loop_state, resume_loops
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from reglab.training.microbatches import Microbatches, cast_floating
from reglab.training.optimizer_average import OptimizerAverage
from reglab.training.polish import polish
from reglab.training.recipe import Recipe
from reglab.training.sparse_gradients import takes_sparse, with_dense_gradients
from reglab.training.term_sums import TermSums
from reglab.training.torch_compile import compile_inner
from reglab.training.update_hooks import UpdateHooks


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
        task: Task | str,
        recipe: Recipe,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(model, cocktail)
        self.automatic_optimization = False
        self.recipe = recipe
        self.engine = engine or Engine()
        self.train_part, self.task = train, task
        self.terms = TermSums()
        self.job_indices = (0,)
        self.failures: dict[int, Diverged] = {}
        self.interrupted: int | None = None
        self._state = _StepState()

    measurement: Measurement

    def loader(self) -> Steps:
        """Return the batches of an epoch, from where training stands."""
        return self._steps(lambda: int(self.cocktail.keys.step))

    def _steps(self, done: Callable[[], int]) -> Steps:
        rows, seed = self.recipe.batch_size * self.engine.accumulate, int(self.cocktail.keys.seed)
        return Steps(len(self.train_part), rows, seed, self.recipe, done)

    def configure_model(self) -> None:
        """Make sparse gradients dense where needed; set DDP's ``find_unused_parameters`` where
        weights get no gradient.
        """
        strategy = self.trainer.strategy
        plain = takes_sparse(self.recipe.build_optimizer(self.model))
        if not plain or self.recipe.clip or self.cocktail.wraps_gradient or self.trainer.world_size > 1:
            self._undo.append(with_dense_gradients(self.model))
        if not isinstance(strategy, DDPStrategy):
            return
        dtype, part = next(iter(self.local_parameters.weights.values())).dtype, self.train_part
        targets = [(torch.ones((), dtype=dtype), cast_floating(part.targets[:2], dtype))]
        batch = Batch(cast_floating(part.inputs[:2], dtype), targets, part.index[:2])
        if unreached(self.model.cpu(), self._objective(), self.cocktail.cpu(), batch):
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def _objective(self) -> Objective:
        return self.cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, self.task))

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.build_optimizer(self.model, self.local_parameters.weights)
        self._position = self._steps(lambda: self._state.step)
        self._schedule = self.recipe.build_schedule(optimizer, self._position.per_epoch)
        if self._schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._schedule.scheduler}  # Lightning only saves it

    def on_fit_start(self) -> None:
        dtype = next(
            (weight.dtype for weight in self.local_parameters.weights.values() if weight.is_floating_point()),
            torch.float32,
        )
        self._state.step = int(self.cocktail.keys.step)
        self._ranks = self.trainer.world_size
        self._microbatches = Microbatches(
            self.train_part,
            self.device,
            dtype,
            rank=self.global_rank,
            ranks=self._ranks,
            batch_size=self.recipe.batch_size,
            accumulate=self.engine.accumulate,
            least=2 if self.engine.sync_batchnorm else 2 * self._ranks,
        )
        self._optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]  # one, not a list
        self._progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        self._scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self._mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        self._finite = Finite(self._position.per_epoch, late=self.device.type == "cuda")
        self._agreement = SignalAgreement(self._ranks, signals.stop_signal)
        if not self.sharded:
            self.change_layers()
        self._undo.append(compile_inner(self.model, self.engine.compile, self.cocktail.keys))
        self._bind()
        if isinstance(self.trainer.strategy, DDPStrategy):
            self._fix_reduction_order()
        self._microbatches.read_ahead(self._position.upcoming())
        self._undo.append(self._microbatches.close)
        resume_loops(self.trainer, self._position)

    def change_layers(self) -> None:
        """Set up SyncBatchNorm and activation checkpointing."""
        ranks, least = self.trainer.world_size, min(self.loader().sizes)
        if least < 2 * ranks and not self.engine.sync_batchnorm and has_batchnorm(self.model):
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
            self.global_rank,
        )
        self._whole_gradient = cocktail.gradient(self._gradient.compute_at)
        self._updates = UpdateHooks(cocktail, parameters.hook_target, self._optimizer, parameters.total)
        self._undo += self._updates.register()
        for _, member in cocktail.named_regularizers():
            if isinstance(member, OptimizerAverage):
                member.follow(self._optimizer)
        self._state.keys, self._state.wraps = cocktail.keys, cocktail.wraps_gradient

    def _fix_reduction_order(self) -> None:
        """Let DDP fix its bucket order by a gradient that is discarded.

        It does so after its first backward pass; a resumed run would otherwise round that pass
        unlike an uninterrupted one.
        """
        rows = torch.arange(min(len(self.train_part), 2 * self._ranks), device=self.device)
        self._gradient.warm_up([self._microbatches.on_rank(rows)], self._state.step)

    def on_fit_end(self) -> None:
        self.unshard()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["terms"], checkpoint["last_lr"] = self.terms.state_dict(), self._state.lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_loop_state(checkpoint)
        self.cocktail.complete(checkpoint["state_dict"])
        if "terms" in checkpoint:  # not where it was a member of a pack, which ends with an epoch
            self.terms.load_state_dict(checkpoint["terms"])
            self._state.lr = checkpoint["last_lr"]

    @property
    def inside_epoch(self) -> bool:
        return self._position.inside_epoch

    def steps_done(self) -> int:
        return int(self.cocktail.keys.step)

    def alive(self) -> list[int]:
        return [0]

    def begin_measuring(self, data: Sequence[DataSet], settings: MeasureSettings, state: Any) -> None:
        dtype = next(iter(self.local_parameters.weights.values())).dtype
        self.measurement = Measurement(gap_rows(data, settings, self.device, dtype), settings, self.trainer.world_size)
        self.measurement.begin(self.local_parameters, state)

    def measure(self, epoch: int = 1, last: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.measure_gap(epoch, last), self.measure_weights(epoch, last)

    def measure_gap(self, epoch: int = 1, last: bool = True) -> dict[str, Tensor]:
        """Return the gap of the weights as they are, and what else is measured of examples."""
        with self.trainer.precision_plugin.val_step_context():
            return self.measurement.gap(self.local_parameters, self.cocktail, epoch, last)

    def measure_weights(self, epoch: int = 1, last: bool = True) -> dict[str, Tensor]:
        """Return the statistics of the weights as they are, and all others."""
        return self.measurement.weights(self.local_parameters, self.cocktail, epoch, last)

    def measured_state(self, row: int) -> dict[str, Any]:
        return self.measurement.state(self.local_parameters)

    def mean_terms(self) -> dict[str, Tensor]:
        return {f"objective/{name}": mean for name, mean in self.terms.take().items()}

    def last_rate(self, row: int) -> float:
        return self._state.lr

    def observe(self, metrics: Mapping[str, Tensor]) -> None:
        if self._schedule is not None:
            self._schedule.observe(metrics)

    def stopped(self, metrics: Mapping[str, Tensor]) -> list[int]:
        stop = bool(self.cocktail.stop(metrics))
        return [0] if self.trainer.strategy.reduce_boolean_decision(stop, all=False) else []

    def fail(self, row: int, error: Diverged) -> None:
        raise error

    def drop(self, rows: Sequence[int]) -> None: ...

    def compact(self) -> None: ...

    def polish(self) -> str:
        if not self.engine.polish:
            return ""
        return str(polish(self, self.train_part, self.task, self.engine.polish))

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        # Lightning's autocast covers the whole chunk; penalties and updates are not to be computed
        # in half precision.
        with torch.autocast(self.device.type, enabled=False) if self._mixed else nullcontext():
            self._train(chunk)

    def _train(self, chunk: list[Tensor]) -> None:
        terms: dict[str, list[Tensor]] = defaultdict(list)
        row_counts, rates, first, signal = [], [], self._state.step, None
        for rows in chunk:
            for name, term in self.step(rows).terms.items():
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

    def step(self, rows: Tensor) -> Outcome:
        """Take one optimizer step on ``rows`` of the training part."""
        gradient, state = self._gradient, self._state
        gradient.begin(self._microbatches.of(rows), state.step)
        if state.wraps:
            gradients, outcome = self._whole_gradient()
            for name, grad in gradients.items():
                self.local_parameters.weights[name].grad = grad
        else:
            outcome = gradient.compute()
        self._update()
        state.keys.step.add_(1)
        state.step += 1
        state.lr = self._optimizer.param_groups[0]["lr"]
        if self._schedule is not None:
            self._schedule.advance(self.inside_epoch)
        return outcome

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
        self._updates.begin(1.0 if self.recipe.clip is None else self.local_parameters.clip(self.recipe.clip))
        self._progress.increment_ready()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)  # not where a gradient is not finite: then no hook runs either
            self._scaler.update()
        self._progress.increment_completed()


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

"""``Regularize``: a Lightning callback that regularizes and measures any LightningModule."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from reglab.analysis.per_example_file import Examples
from reglab.callback import checks
from reglab.callback.averaged_weights import averaged_weights
from reglab.callback.batch_evaluation import Asked, BatchLoss
from reglab.callback.checks import check_task, named_members
from reglab.callback.clipping import follow_clipping
from reglab.callback.dataloader_rows import Unpack, inputs_and_targets
from reglab.callback.fixed_batches import rows_in
from reglab.callback.loop_guard import loop_guard
from reglab.callback.measurement import LoaderMeasurement
from reglab.callback.optimizer_hooks import OptimizerHooks
from reglab.callback.own_scores import MetricOrFunction, own_scores
from reglab.callback.run_record import OWN_LOSS, log_final, run_tags, tag_runs, warn_of_shared
from reglab.callback.second_gradient import SecondGradient
from reglab.callback.sharding import local_parameters, local_state, localize, whole_state
from reglab.callback.training_loss import TrainingLoss
from reglab.core.errors import UserError
from reglab.core.keywords import nearest_keyword
from reglab.distributed.parameters import LocalParameters
from reglab.measures import Measure, MeasureSettings, to_floats
from reglab.measures.own_scores import AnyScore
from reglab.regularizers import Cocktail, Regularizer, overrides
from reglab.tasks import Task, task_named
from reglab.training.check import check_seed
from reglab.training.per_example import log_examples
from reglab.training.silent_hooks import HookWatch

_log = logging.getLogger(__name__)


class Regularize(pl.Callback):
    """Regularizes any LightningModule and measures its gap and weights after each epoch.

    ``Trainer(callbacks=[Regularize([L1(1e-4), EMA(0.99)], task="classification")]).fit(module, train, val)``

    The module, its optimizer and its loaders stay as they are, under automatic or manual
    optimization. Penalties are added to the gradient before it is clipped; decay and proximal steps
    follow the optimizer's own update. Where ``Trainer(gradient_clip_val=...)`` or
    ``self.clip_gradients`` scales the gradient down to a norm, proximal steps are scaled with it, so
    that they solve the same problem. Regularizers act on all weights that the optimizer holds, also
    on those that the loss does not reach: freeze what is to be left alone. The module's
    ``nn.Dropout`` gets draws that depend on (seed, step, place in the batch, call) alone. An empty
    list only measures, and changes nothing.

    Flooding acts on the loss that ``training_step`` returns. Label smoothing and mixup do where
    that is the mean loss of the ``task`` and ``training_step`` calls ``self(inputs)`` once; under
    mixup it gets the mixed inputs. SAM takes its second gradient of ``loss(module, batch)``, whose
    mean must be that loss, with the draws that ``training_step`` had. All need automatic
    optimization.

    Measured are ``module(inputs)`` against the targets, with the task's own loss (see
    ``measures.example_losses``), or a ``loss`` of your own of any batch, on a fixed probe of the
    training rows and on all validation rows, each read from the loader's dataset in its order. Rows
    of up to ``memory_mb`` are read once, when training starts, and kept on the device; more are
    read again for each measurement, in the loader's batches and with its workers, so that memory
    does not grow with them. Where the training dataset augments at random, the probe is one draw of
    it, by a fixed seed. Metrics go to the trainer's loggers as ``train/loss``, ``val/loss``,
    ``gap/loss``, ``weights/all/...``, so ``ModelCheckpoint(monitor="val/loss")`` keeps the epoch
    that early stopping stands for.

    Validation, test and prediction see averaged weights (``ema``) where there are some; training
    and checkpoints never do. ``with callback.cocktail.evaluating(module):`` gives them afterwards.
    A checkpoint has what a resumed fit needs; its numbers, strengths and seed included, replace
    those given here.

    Args:
        regularizers: A list, or a dict by name.
        task: What the outputs are; may be left out where there is a ``loss``.
        loss: ``loss(module, batch)`` of a batch as ``training_step`` gets it: a loss for each row,
            ``[rows]``, whose gap has an interval, or one for the batch, 0-dim, whose gap has none.
        seed: Of the draws.
        every: Measure after so many epochs and after the last; None never.
        unpack: Gives ``(inputs, targets)`` of a batch as ``training_step`` gets it.
        prefix: Put before each logged name, where the module logs the same names itself.
        scores: To measure beside the task's own, such as ``["auroc", "f1"]``, see
            ``measure.scores``; a metric of torchmetrics among them gets what the task makes of the
            outputs, such as probabilities. Or your own by name, such as
            ``{"iou": JaccardIndex(...)}``: metrics of torchmetrics, which get ``module(inputs)``
            and targets batch by batch, or functions of all outputs and targets. Higher is better
            unless its ``higher_is_better`` is False. It has an interval where it gives a value for
            each row.
        measures: What is measured, by name (see ``reglab.measures.Measure``), ``Gap()`` among
            them; None: ``default_measures()``. ``every="end"`` is refused.
        memory_mb: Megabytes of rows that are kept, of each side; 0 always reads again, infinity
            never.
        optimizer: Of several, the one whose steps are followed: its number in what
            ``configure_optimizers`` gives, or the name of the part of the module whose weights it
            holds, such as ``"generator"``. Weights of the others are left alone.

    Attributes:
        metrics: The last measurement.
        history: All of them with their ``epoch``, counted from 1; 0 is the untrained model. A
            checkpoint has the last one alone, so that it does not grow: a resumed fit's history
            begins there.
        examples: The losses by example of the last measurement, once a fit has ended; where the
            trainer has Lightning's ``MLFlowLogger``, they are an artifact of its run,
            ``examples.npz``.

    Raises:
        UserError: For a regularizer that needs a ``task`` or a ``loss`` that is not given.
    """

    @nearest_keyword
    def __init__(
        self,
        regularizers: Sequence[Regularizer] | Mapping[str, Regularizer],
        task: Task | str | None = None,
        *,
        loss: BatchLoss | None = None,
        seed: int = 0,
        every: int | None = 1,
        unpack: Unpack = inputs_and_targets,
        prefix: str = "",
        scores: Sequence[AnyScore | Metric] | Mapping[str, MetricOrFunction] = (),
        measures: Mapping[str, Measure] | None = None,
        memory_mb: float = 256,
        optimizer: int | str | None = None,
    ) -> None:
        checks.check_used(regularizers, every, scores, prefix, measures, memory_mb, optimizer)
        names: Sequence[Any] = () if isinstance(scores, Mapping) else scores
        self._settings = MeasureSettings(every=1 if every is None else every, scores=names, measures=measures)
        checks.check_measures(self._settings)
        self.task, self.loss = None if task is None else task_named(task), loss
        if every is not None or task is not None or loss is not None:
            check_task(self.task, loss, self._settings)
        name = self.task.name if self.task else OWN_LOSS
        self.cocktail = Cocktail(named_members(regularizers, self.task, loss), check_seed(seed), name)
        self._memory, self._which, self._seed = memory_mb * 2**20, optimizer, seed
        self.every, self.unpack = every, unpack
        self._asked, self.prefix = Asked(self.task, unpack, loss, own_scores(scores, self.task)), prefix
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.examples: Examples | None = None
        self._module: pl.LightningModule | None = None
        self._parameters: LocalParameters | None = None
        self._hooks: OptimizerHooks | None = None
        self._unfollow: Callable[[], None] = lambda: None
        self._objective: TrainingLoss | None = None
        self._second: SecondGradient | None = None
        self._measurement: LoaderMeasurement | None = None
        self._evaluating = ExitStack()
        self._guard = ExitStack()
        self._watch: HookWatch | None = None
        self._restored: dict[str, Any] = {}

    def run_tags(self) -> dict[str, str]:
        """Return the tags by which a report groups runs: regularizers, strength, task and score."""
        return run_tags(self.cocktail, self._asked, self._settings)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        checks.check_strategy(trainer)
        self._guard.enter_context(loop_guard(trainer, pl_module))
        self._parameters = None  # they may be sharded since
        parameters = self._prepare(pl_module)
        if self.cocktail.members:
            checks.check_sharded(self.cocktail, parameters, self._which)
            optimizer = checks.followed_optimizer(trainer, pl_module, self._which)
            checks.check_loss_members(trainer, pl_module, self.cocktail, self.unpack)
            self._objective = objective = TrainingLoss(self.cocktail, pl_module, self._asked, parameters.total)
            if self.cocktail.wraps_gradient and self.loss is not None:
                self._second = SecondGradient(trainer, pl_module, self.cocktail, self.loss, objective)
            self._guard.enter_context(objective.wrapped(self._second.check if self._second else None))
            held_only = self._which is not None
            self._hooks = OptimizerHooks(self.cocktail, pl_module, optimizer, parameters, self._second, held_only)
            self._unfollow = follow_clipping(trainer, self.cocktail, optimizer, self._hooks.clipped)
        if trainer.is_global_zero:
            tag_runs(trainer.loggers, self.run_tags(), self._seed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stopping = [name for name, member in self.cocktail.named_regularizers() if overrides(member, "on_validation")]
        missing, parameters = "every=None", self._prepare(pl_module)  # some strategies load a checkpoint late
        if self.every is not None:
            self._measurement = LoaderMeasurement(trainer, pl_module, self._asked, self._settings, self._memory)
            saved, self._restored = {"initial": {}, "previous": {}} | self._restored, {}
            self._measurement.begin(parameters, saved)
            missing = self._measurement.missing
            if missing:
                rank_zero_warn(f"Regularize measures the weights but no gap: {missing}", category=UserWarning)
        if stopping and missing:
            raise UserError(f"{stopping[0]} watches val/loss, which is not measured: {missing}")
        if self.every is not None and not self.history:
            self._record(trainer, pl_module, 0)  # errors in the data are raised before the first epoch
        self._begin(trainer, pl_module)

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._advise(trainer)
        self._watch = HookWatch(pl_module, self.cocktail)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._hooks is None:
            return
        self._hooks.begin_batch()
        self.cocktail.keys.begin()
        # Without an index, draws are keyed by the position in the batch, which is enough where a
        # step sees one batch.
        several = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1 or not pl_module.automatic_optimization
        if several and (rows := self._rows_of(batch)):
            positions = torch.arange(self._hooks.rows, self._hooks.rows + rows, device=pl_module.device)
            # Lightning assigns rows to ranks round-robin, so this is the position in the joint
            # batch.
            self.cocktail.keys.index = positions * trainer.world_size + trainer.global_rank
            self._hooks.rows += rows
        if self._second is not None:
            self._second.begin_batch(batch, first=batch_idx % trainer.accumulate_grad_batches == 0)
        if self._objective is not None:
            self._objective.expected = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._watch is not None:
            self._watch.remove()
            self._watch.report()
            self._watch = None

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if self._hooks is not None and optimizer is self._hooks.optimizer:
            self._hooks.gradient_ready()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self._objective is not None:
            self._objective.expected = False  # a hook may have skipped the last batch
        if self.every is None:
            self._terms()  # which nobody reads: they would grow with every step
        elif epoch % self.every == 0 or epoch == trainer.max_epochs:
            self._record(trainer, pl_module, epoch)

    def _rows_of(self, batch: Any) -> int:
        """Return the number of rows of a batch; 0 where it has no tensor, as one of graphs may."""
        known = self.loss is None or self.unpack is not inputs_and_targets
        return len(self.unpack(batch)[0]) if known else rows_in(batch)

    def _advise(self, trainer: pl.Trainer) -> None:
        """Warn of hyperparameters without effect in the number of steps."""
        steps = trainer.estimated_stepping_batches
        for name, member in self.cocktail.named_regularizers():
            if math.isfinite(steps) and (sentence := member.advice(int(steps))) and trainer.is_global_zero:
                _log.warning("%s: %s", name, sentence)

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        if self._measurement is None:
            return
        last = epoch == trainer.max_epochs
        gap, others = self._measurement.both(trainer, self._prepare(module), self.cocktail, epoch, last)
        self.metrics = to_floats(gap | others | self._terms())
        self.history.append({"epoch": float(epoch), **self.metrics})
        if epoch == 0:
            return
        named = {self.prefix + name: value for name, value in self.metrics.items()}
        if len(self.history) == 2:
            warn_of_shared(sorted(set(named) & set(trainer.callback_metrics)))
        module.log_dict(named, on_step=False, on_epoch=True, batch_size=1, sync_dist=trainer.world_size > 1)
        if not self._measurement.missing:
            stop = bool(self.cocktail.stop(gap))
            trainer.should_stop |= trainer.strategy.reduce_boolean_decision(stop, all=False)

    def _terms(self) -> dict[str, Tensor]:
        sums = ([self._objective.terms] if self._objective else []) + ([self._hooks.terms] if self._hooks else [])
        return {f"objective/{name}": mean for each in sums for name, mean in each.take().items()}

    def _prepare(self, module: pl.LightningModule) -> LocalParameters:
        """Let the members change the module, once, and load their state from a checkpoint; return
        its weights.
        """
        if self._module not in (None, module):
            raise UserError("this Regularize has trained another module, and carries its state; make a new one")
        with torch.inference_mode(False):  # validation may come first, and its tensors could not be trained
            if self._module is None and self.cocktail.members and self.cocktail.prepare(module) is not module:
                raise UserError("a regularizer replaced the whole module, which a callback cannot do")
            self._module = module
            if self._parameters is None:
                self._parameters = local_parameters(module)
                localize(self.cocktail, self._parameters)
            if (state := self._restored.pop("cocktail", None)) is not None:
                self.cocktail.complete(state, "", dict(module.named_buffers()))
                try:
                    self.cocktail.load_state_dict(local_state(state, self.cocktail, self._parameters))
                except RuntimeError as error:
                    names = ", ".join(self.cocktail.members) or "none"
                    raise UserError(f"the checkpoint holds other regularizers than {names}: {error}") from error
            self.cocktail.to(module.device)
        return self._parameters

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = self._prepare(pl_module)  # there need not have been a fit
        self._evaluating.enter_context(averaged_weights(self.cocktail, pl_module, parameters))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluating.close()

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.examples = self._measurement.examples(pl_module) if self._measurement else None
        self._release()
        if trainer.is_global_zero and self.metrics:
            log_final(trainer.loggers, self.metrics, int(self.history[-1]["epoch"]))
        if self.examples is not None and trainer.is_global_zero:
            log_examples(trainer.loggers, self.examples)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        self._evaluating.close()
        self._guard.close()
        if self._watch is not None:
            self._watch.remove()
        self.cocktail.keys.index = None
        if self._hooks is not None:
            self._hooks.remove()
            self._unfollow()
            self._hooks = self._second = self._objective = None

    def state_dict(self) -> dict[str, Any]:
        if (whole := self._parameters) is None:
            return {"cocktail": dict(self.cocktail.state_dict()), "history": self.history[-1:]}
        state = {"cocktail": whole_state(self.cocktail, whole), "history": self.history[-1:]}
        if self._measurement is not None:
            state |= self._measurement.kept()
            history = self._measurement.history
            for when, weights in (("initial", history.initial), ("previous", history.previous)):
                state[when] = {name: whole.whole(name, weight) for name, weight in weights.items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = dict(state_dict)
        self.history = self._restored.pop("history")
        self.metrics = {key: value for key, value in self.history[-1].items() if key != "epoch"} if self.history else {}

"""``TransformersCallback``: a callback for ``transformers.Trainer`` that regularizes and measures."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torchmetrics import Metric

from reglab.callback.attach import Attached, attached, members_of_steps
from reglab.callback.batch_evaluation import Asked, BatchLoss
from reglab.callback.checks import check_task
from reglab.callback.dataloader_rows import inputs_and_targets
from reglab.callback.fixed_batches import rows_in
from reglab.callback.own_scores import MetricOrFunction, own_scores
from reglab.core.errors import UserError
from reglab.huggingface.batches import logits_and_labels, measured_loader, model_loss
from reglab.huggingface.checks import check_arguments, check_dropout
from reglab.huggingface.run import TrainerRun
from reglab.measures import MeasureSettings
from reglab.measures.own_scores import AnyScore
from reglab.regularizers import Regularizer
from reglab.tasks import Task, task_named
from reglab.training import checkpoint_files

_log = logging.getLogger(__name__)
_FILE = "reglab.pt"


class TransformersCallback:
    """Regularizes and measures what ``transformers.Trainer`` trains.

    ``Trainer(model, args, train_dataset=..., eval_dataset=..., callbacks=[TransformersCallback([L1(1e-4)])])``

    Model, optimizer, schedule, accumulation and mixed precision stay as they are. Before each
    update of the optimizer the penalties are added to the accumulated gradient, which is then
    clipped to ``max_grad_norm``; decay, proximal steps (with the optimizer's effective step size)
    and averages follow it. The ``grad_norm`` that Trainer logs is that of the loss alone. The
    model's ``nn.Dropout`` gets draws that depend on (seed, step, position in the batch). An empty
    list only measures, and changes nothing.

    At each evaluation of Trainer (``eval_strategy``) the gap is measured: the whole evaluation set
    and as many training rows (at least 1,000, or all) go through the same function, in evaluation
    mode, each in the order of its dataset. The metrics are in ``state.log_history``, in the run, and,
    with ``eval_`` before their names, among those of Trainer:
    ``metric_for_best_model="gap/loss"`` works. Trainer evaluates averaged weights (``ema``) where
    there are some, and saves the trained ones; ``callback.evaluating()`` gives them afterwards.

    A checkpoint of Trainer has what a resumed training needs in ``reglab.pt``.

    Args:
        regularizers: A list, or a dict by name.
        task: What the model's ``logits`` are, judged by the ``labels`` of a batch: a loss for each
            row, whose gap has an interval, and the task's score. None: the model's own loss of a
            batch, whose gap has none.
        loss: ``loss(model, batch)`` of your own, a loss for each row, ``[rows]``, or one, 0-dim.
        scores: Names of the task's, or your own by name; see ``Regularize``.
        seed: Of the draws; None: that of ``TrainingArguments``.
        tracking: An MLflow URI such as ``sqlite:///reglab.db``, for a run that ``reglab report``
            knows, in the folder ``reglab`` of the ``output_dir``; None: no run.
        experiment: The run's; None: MLFLOW_EXPERIMENT_NAME, or ``reglab``.

    Attributes:
        metrics: The last measurement.
        history: All of them, with their ``epoch`` and ``step``.
        run_id: The MLflow run's; None without one.

    Raises:
        UserError: For a regularizer that needs the loss or the batch of a step.
    """

    def __init__(
        self,
        regularizers: Sequence[Regularizer] | Mapping[str, Regularizer],
        task: Task | str | None = None,
        *,
        loss: BatchLoss | None = None,
        scores: Sequence[AnyScore | Metric] | Mapping[str, MetricOrFunction] = (),
        seed: int | None = None,
        tracking: str | None = None,
        experiment: str | None = None,
    ) -> None:
        judged = None if task is None else task_named(task)
        names: Sequence[Any] = () if isinstance(scores, Mapping) else scores
        self._settings = MeasureSettings(scores=names)
        loss = model_loss if task is None and loss is None else loss
        check_task(judged, loss, self._settings)
        self._members = members_of_steps(
            regularizers, "transformers.Trainer hands to no callback: train with reglab.fit or `reglab train`"
        )
        own = own_scores(scores, judged)
        self._asked = Asked(judged, inputs_and_targets, loss, own, logits_and_labels)
        self._seed, self._tracking, self._experiment = seed, tracking, experiment
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.run_id: str | None = None
        self._attached: Attached | None = None
        self._model: nn.Module | None = None
        self._run: TrainerRun | None = None
        self._loaders: tuple[Any, Any] | None = None
        self._averaged = ExitStack()
        self._max_norm: float | None = None  # of TrainingArguments, while a step is made
        self._rows = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):  # events at which nothing is done
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context in which the model has averaged weights, where there are some.

        Raises:
            UserError: Before training.
        """
        if self._attached is None:
            raise UserError("nothing was trained yet: call trainer.train() first")
        return self._attached.evaluating()

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any) -> None:
        """Follow the optimizer, from where the Trainer's checkpoint was, if it resumes from one."""
        self._restore(args)
        plain = _torch_optimizer(optimizer)
        check_arguments(args, state, plain, bool(self._members))
        seed = args.seed if self._seed is None else self._seed
        if self._attached is None:
            self._attached = attached(model, plain, self._members, self._asked, self._settings, seed)
            self._model = model
            check_dropout(args, model, self._attached.cocktail)
            if self._members and args.world_size * args.gradient_accumulation_steps > 1:
                model.register_forward_pre_hook(_Indexed(self, args), with_kwargs=True)
        elif self._model is not model or not self._attached.follows(plain):
            raise UserError("this TransformersCallback has trained another model; give each Trainer a new one")
        if state.global_step:
            self._load(Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE)
        if str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
            _log.warning("no gap is measured: Trainer evaluates nothing; give TrainingArguments(eval_strategy='epoch')")
        if self._tracking is not None and state.is_world_process_zero:
            if self._run is not None:
                self._run.give_up()
            tags = {**self._attached.tags, "reglab.seed": str(args.seed)}
            cocktail, resumed = self._attached.cocktail, state.global_step > 0
            self._run = TrainerRun(self._tracking, self._experiment, args, resumed, model, cocktail, tags, seed)
            self.run_id = self._run.run_id

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take over the clipping of the step: penalties belong into the gradient before it."""
        self._averaged.close()
        self._rows = 0
        if self._members and args.max_grad_norm:
            self._max_norm, args.max_grad_norm = args.max_grad_norm, 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the penalties to the gradient, which is accumulated and unscaled, and clip it."""
        norm = self._restore(args)
        if norm is not None and self._attached is not None:
            self._attached.clip_grad_norm_(norm)

    def _restore(self, args: Any) -> float | None:
        norm, self._max_norm = self._max_norm, None
        if norm is not None:
            args.max_grad_norm = norm
        return norm

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let an evaluation that follows see averaged weights."""
        if self._attached is not None:
            self._averaged.close()
            if control.should_evaluate:
                self._averaged.enter_context(self._attached.evaluating())

    on_epoch_end = on_step_end

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: dict[str, float],
        train_dataloader: Any = None,
        eval_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Measure both sides, during training."""
        self._averaged.close()
        if self._attached is None or self._model is None or train_dataloader is None:
            return
        if "eval_runtime" not in metrics:
            raise UserError("TransformersCallback measures one eval_dataset, and several are given; give one")
        if self._loaders is None:
            rows, ranks = args.eval_batch_size, args.world_size
            train, val = (measured_loader(each, rows, ranks) for each in (train_dataloader, eval_dataloader))
            self._loaders = train, val
        self.metrics = self._attached.measure(*self._loaders)
        row = {**self.metrics, "epoch": float(state.epoch or 0), "step": state.global_step}
        self.history.append(row)
        state.log_history.append(row)
        metrics.update({f"eval_{name}": value for name, value in self.metrics.items()})
        if self._run is not None:
            by_epoch = str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "epoch"
            self._run.log(self.metrics, round(row["epoch"]) if by_epoch else state.global_step)
        if self._attached.should_stop:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put beside Trainer's checkpoint what a resumed training needs."""
        if self._attached is None or not state.is_world_process_zero:
            return
        content = {"attached": self._attached.state_dict(), "history": self.history[-1:]}
        checkpoint_files.write(content, Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the last measurement as the run's result."""
        self._averaged.close()
        self._loaders = None
        if self._run is not None:
            self._run.finish(self.metrics, float(state.epoch or 0))
            self._run = None

    def _load(self, path: Path) -> None:
        assert self._attached is not None
        if not path.exists():
            if not self._members:
                return
            raise UserError(
                f"there is no {path}, so the checkpoint was saved without this callback, or lies outside of "
                "output_dir; train anew, or give the output_dir that the checkpoint is in"
            )
        content = checkpoint_files.read(path)
        try:
            self._attached.load_state_dict(content["attached"])
        except RuntimeError as error:
            names = ", ".join(self._members) or "none"
            raise UserError(f"{path} holds other regularizers than {names}: {error}") from error
        self.history = content["history"]

    def number_rows(self, model: nn.Module, rows: int, args: Any) -> None:
        """Let dropout draw for rows by their numbers in the joint batch of a step.

        Args:
            model: That computes them.
            rows: How many this rank takes; the others as many.
            args: ``TrainingArguments``.
        """
        assert self._attached is not None
        first, self._rows = self._rows * args.world_size + args.process_index * rows, self._rows + rows
        device = next(model.parameters()).device
        self._attached.cocktail.keys.at(torch.arange(first, first + rows, device=device))


class _Indexed:
    """A forward pre-hook: numbers the rows where a step sees several batches."""

    def __init__(self, callback: TransformersCallback, args: Any) -> None:
        self._callback, self._args = callback, args

    def __call__(self, model: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if model.training and (rows := rows_in((arguments, options))):
            self._callback.number_rows(model, rows, self._args)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _torch_optimizer(optimizer: Any) -> Optimizer:
    """Return torch's own optimizer, in the one that accelerate made of it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    plain: Optimizer = optimizer
    return plain

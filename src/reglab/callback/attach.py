"""Regularize and measure a training loop of the user's own: plain PyTorch, or Lightning Fabric."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import nn
from torch.optim import Optimizer
from torchmetrics import Metric

from reglab.callback.averaged_weights import averaged_weights
from reglab.callback.batch_evaluation import Asked, BatchLoss, evaluate_batches
from reglab.callback.checks import by_name, check_kind, check_task
from reglab.callback.dataloader_rows import Unpack, inputs_and_targets
from reglab.callback.fixed_batches import MEMORY, FixedBatches
from reglab.callback.measured_sides import Sides, gap_of_batches
from reglab.callback.optimizer_hooks import OptimizerHooks
from reglab.callback.own_scores import MetricOrFunction, own_scores
from reglab.callback.run_record import OWN_LOSS, run_tags
from reglab.core.errors import UserError
from reglab.distributed.parameters import clip_factor
from reglab.measures import MeasureSettings, probe_size, to_floats
from reglab.measures.own_scores import AnyScore
from reglab.regularizers import Cocktail, Regularizer, overrides
from reglab.tasks import Task, task_named
from reglab.training.check import check_seed
from reglab.training.measurement import Measurement


class Attached:
    """Regularizers around the steps of an optimizer, and the measurement of its model.

    Made by ``reglab.attach``.

    Attributes:
        cocktail: The regularizers.
        metrics: The last measurement.
        history: All of them.
        should_stop: Whether early stopping asks for an end, after the last measurement.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, cocktail: Cocktail, asked: Asked, settings: Any) -> None:
        self.cocktail = cocktail
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.should_stop = False
        self._model, self._asked, self._settings = model, asked, settings
        self._hooks = OptimizerHooks(cocktail, model, optimizer)
        self._after = optimizer.register_step_post_hook(lambda *_: cocktail.keys.begin())
        self._weights = Measurement(None, settings)
        self._weights.begin(model)
        self._sides: tuple[tuple[Any, Any], Sides] | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What a report groups runs by: tags for ``mlflow.set_tags``."""
        return run_tags(self.cocktail, self._asked, self._settings)

    def clip_grad_norm_(self, max_norm: float) -> None:
        """Add the penalties to the gradient and clip its norm, in the place of
        ``torch.nn.utils.clip_grad_norm_``; proximal steps are scaled with it.

        Args:
            max_norm: The largest norm.
        """
        self._hooks.begin_batch()  # a gradient scaler may have skipped the step before
        self._hooks.gradient_ready()
        gradients = [weight.grad for weight in self._model.parameters() if weight.grad is not None]
        if not gradients:
            return
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
        factor = clip_factor(norm, max_norm)
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))
        self._hooks.clipped(factor)

    def measure(self, train_loader: Any, val_loader: Any) -> dict[str, float]:
        """Return the gap, with its intervals, and the weight statistics; call it after each epoch.

        Both sides are measured by the same function, in evaluation mode, with averaged weights
        where there are some, on all validation rows and on as many training rows (at least 1,000),
        each read in the order of its dataset. No random state is moved.

        Args:
            train_loader: A DataLoader.
            val_loader: Another.
        """
        sides = self._read(train_loader, val_loader)
        with self.cocktail.evaluating(self._model):
            train, val = (evaluate_batches(self._model, side, self._asked) for side in sides.both)
        gap = gap_of_batches(train, val, self._asked, sides.left, self._settings)
        self.should_stop = self.should_stop or bool(self.cocktail.stop(gap))
        terms = {f"objective/{name}": mean for name, mean in self._hooks.terms.take().items()}
        self.metrics = to_floats(gap | self._weights.weights(self._model, self.cocktail) | terms)
        self.history.append(dict(self.metrics))
        return self.metrics

    def follows(self, optimizer: Optimizer) -> bool:
        """Return whether these are the regularizers of the optimizer's steps."""
        return self._hooks.optimizer is optimizer

    def _read(self, train: Any, val: Any) -> Sides:
        if self._sides is None or self._sides[0] != (train, val):
            device = next(self._model.parameters()).device
            ready = partial(move_data_to_device, device=device)
            unpack = self._asked.unpack if self._asked.loss is None and self._asked.predict is None else None
            of_val = FixedBatches(val, ready, unpack, memory=MEMORY)
            wanted = partial(probe_size, val_rows=of_val.rows)
            probe = FixedBatches(train, ready, unpack, wanted, memory=MEMORY)
            whole = probe.rows < wanted(probe.available)  # a stream that ended
            self._sides = (train, val), Sides(probe, of_val, probe.rows if whole else probe.available)
        return self._sides[1]

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context in which the model has the weights to be judged by: averaged ones, where
        there are some. Save the trained ones outside of it.
        """
        return averaged_weights(self.cocktail, self._model)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed loop loads, beside the states of model and optimizer."""
        history = self._weights.history
        return {
            "cocktail": dict(self.cocktail.state_dict()),
            "initial": history.initial,
            "previous": history.previous,
            "should_stop": self.should_stop,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned, once model and optimizer have theirs.

        Args:
            state: Of the loop that is resumed.
        """
        self.cocktail.complete(state["cocktail"], "", dict(self._model.named_buffers()))
        self.cocktail.load_state_dict(state["cocktail"])
        self._weights.begin(self._model, state)
        self.should_stop = state["should_stop"]

    def remove(self) -> None:
        """Let the optimizer step as it did before."""
        self._hooks.remove()
        self._after.remove()


def attach(
    model: nn.Module,
    optimizer: Optimizer,
    regularizers: Sequence[Regularizer] | Mapping[str, Regularizer],
    task: Task | str | None = None,
    *,
    loss: BatchLoss | None = None,
    scores: Sequence[AnyScore | Metric] | Mapping[str, MetricOrFunction] = (),
    unpack: Unpack = inputs_and_targets,
    seed: int = 0,
) -> Attached:
    """Regularize a training loop of your own, and return what measures it.

    The loop stays as it is: ``optimizer.step()`` adds the penalties to the gradient before the
    update, and decays, projects and averages after it. Call it before ``fabric.setup`` under
    Lightning Fabric, on one device or with replicated weights.

    Args:
        model: That is trained; dropout and the like may change it.
        optimizer: That holds its weights.
        regularizers: A list, or a dict by name.
        task: What the outputs are; may be left out where there is a ``loss``.
        loss: ``loss(model, batch)`` of a batch: a loss for each row, whose gap has an interval, or
            one for the batch, whose gap has none.
        scores: Names of scores, or your own by name; see ``Regularize``.
        unpack: Gives ``(inputs, targets)`` of a batch.
        seed: Of the draws.

    Returns:
        The regularizers at work.

    Raises:
        UserError: For a regularizer that needs the batch or the loss, which only the loop has.

    Example:
        >>> import torch, reglab
        >>> inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> rows = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))
        >>> parts = [torch.utils.data.Subset(rows, part) for part in (range(32), range(32, 64))]
        >>> train, val = (torch.utils.data.DataLoader(part, 16) for part in parts)
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> attached = reglab.attach(model, optimizer, [reglab.L1(0.5)], task="regression")
        >>> for epoch in range(20):
        ...     for x, y in train:
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.mse_loss(model(x), y).backward()
        ...         optimizer.step()
        ...     metrics = attached.measure(train, val)
        >>> sorted(key for key in metrics if key.startswith("gap/loss"))
        ['gap/loss', 'gap/loss_high', 'gap/loss_low']
    """
    names: Sequence[Any] = () if isinstance(scores, Mapping) else scores
    settings, judged = MeasureSettings(scores=names), None if task is None else task_named(task)
    check_task(judged, loss, settings)
    named = members_of_steps(
        regularizers, "only your loop has: train with reglab.fit, or with Lightning and reglab.Regularize"
    )
    return attached(model, optimizer, named, Asked(judged, unpack, loss, own_scores(scores, judged)), settings, seed)


def members_of_steps(
    regularizers: Sequence[Regularizer] | Mapping[str, Regularizer], whose: str
) -> dict[str, Regularizer]:
    """Return the members by name, which act around an optimizer's step alone.

    Args:
        regularizers: A list, or a dict by name.
        whose: Who has the batch and the loss of a step, and the way out.

    Raises:
        UserError: For one that needs the batch or the loss of a step.
    """
    named = by_name(regularizers)
    for name, member in named.items():
        if overrides(member, "on_objective") or overrides(member, "on_gradient"):
            raise UserError(f"{name} needs the batch or the loss of a step, which {whose}")
    return named


def attached(
    model: nn.Module,
    optimizer: Optimizer,
    members: Mapping[str, Regularizer],
    asked: Asked,
    settings: MeasureSettings,
    seed: int,
) -> Attached:
    """Return regularizers at work around the steps of an optimizer; see ``attach``.

    Args:
        model: That is trained.
        optimizer: That holds its weights.
        members: By name.
        asked: What is measured.
        settings: Of scores and intervals.
        seed: Of the draws.
    """
    _check_optimizer(model, optimizer)
    cocktail = Cocktail(members, check_seed(seed), asked.task.name if asked.task else OWN_LOSS)
    if members and cocktail.prepare(model) is not model:
        raise UserError("a regularizer replaced the whole model, which attach cannot do: train with reglab.fit")
    cocktail.to(next(model.parameters()).device)
    return Attached(model, optimizer, cocktail, asked, settings)


def _check_optimizer(model: nn.Module, optimizer: Optimizer) -> None:
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if not any(id(weight) in held for weight in model.parameters()):
        raise UserError(
            f"the {type(optimizer).__name__} holds no weight of this {type(model).__name__}: make it of them"
        )
    check_kind(optimizer)

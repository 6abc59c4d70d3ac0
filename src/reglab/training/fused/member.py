"""Member of a pack: model and cocktail in one module, and which jobs can be fused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from reglab.regularizers import Cocktail
from reglab.training.execution_settings import Engine, split_settings
from reglab.training.experiment import Experiment
from reglab.training.sparse_gradients import with_dense_gradients

T = TypeVar("T")
_PLAIN = (str, int, float, bool, tuple, type(None))


class Member(nn.Module):
    """A model beside its cocktail, in one module: ``functional_call`` can then swap all state of a
    job at once.
    """

    def __init__(self, model: nn.Module, cocktail: Cocktail) -> None:
        super().__init__()
        self.cocktail = cocktail
        self.model = cocktail.prepare(model)
        with_dense_gradients(self.model)

    def forward(self, do: Callable[["Member"], T]) -> T:
        return do(self)


def structure(experiment: Experiment) -> tuple[Any, ...]:
    """Return what must be equal in all members of a pack: everything but numbers.

    Compare it before training.
    """
    data, recipe = experiment.data, experiment.recipe
    weights = experiment.model.state_dict()
    return (
        repr(experiment.model),
        tuple((path, type(module), _attributes(module)) for path, module in experiment.model.named_modules()),
        tuple((name, tuple(value.shape), value.dtype) for name, value in weights.items()),
        tuple(weight.requires_grad for weight in experiment.model.parameters()),
        tuple((name, type(member), _attributes(member)) for name, member in experiment.cocktail.named_regularizers()),
        (repr(_masked(recipe.optimizer)), repr(_masked(recipe.scheduler)), recipe.clip is None),
        (recipe.batch_size, recipe.steps_per_batch, recipe.epochs, recipe.min_epochs, recipe.limit, recipe.steps),
        (data.task, data.outputs, data.input_shape, len(data.train), len(data.val), data.train.targets.shape[1:]),
        (bool((data.train.weights == 1).all()), data.weighted, bool(data.train.corrupted.any())),
        (data.criterion.key, data.streamed),
        (experiment.measure, tuple(sorted(map(repr, experiment.trainer.items())))),
    )


def why_solo(experiment: Experiment) -> str:
    """Return why a job cannot be a member of any pack; empty if it can."""
    precision = str(experiment.trainer.get("precision") or "32-true")
    if precision not in ("32-true", "32", "64-true", "64"):
        return f"trainer.precision={precision} trains solo only"
    if split_settings(experiment.trainer)[0] != Engine():
        return (
            "accumulate_grad_batches, compile, activation_checkpointing and polish_steps are for jobs that train alone"
        )
    if reason := experiment.data.criterion.why_solo:
        return reason
    for name, member in experiment.cocktail.named_regularizers():
        if not member.fusable:
            return f"regularizer {name} cannot be fused: {member.why_solo}"
    return ""


def _attributes(member: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Return what a regularizer holds beside its buffers: sizes, counts, patterns."""
    return tuple(sorted((key, value) for key, value in vars(member).items() if isinstance(value, _PLAIN)))


def _masked(value: Any) -> Any:
    """Return a config node without its numbers and lists of numbers, which may differ between
    members.
    """
    if isinstance(value, Mapping):
        return {key: _masked(value[key]) for key in sorted(value) if not _numeric(value[key])}
    return [_masked(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _numeric(value: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(_numeric(each) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def aliases(module: nn.Module) -> dict[str, str]:
    """Map each state dict name to that of ``named_parameters`` or ``named_buffers``.

    They differ where a tensor is shared by two modules.
    """
    first: dict[int, str] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        first[id(tensor)] = name
    names = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            names[name] = first[id(tensor)]
    return names

"""Param groups of an optimizer: which weights have settings of their own, and which are frozen."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.config.instantiate import construct
from reglab.core.errors import UserError, nearest
from reglab.regularizers.parameter_kinds import kinds_of
from reglab.regularizers.select import Named, check_selection, chosen, selected

GROUPS, LAYER_DECAY = "groups", "layer_decay"
_WHERE, _FROZEN, _SCALE = "where", "frozen", "lr_scale"


@dataclass(frozen=True)
class ParamGroup:
    """Weights with the same settings.

    Args:
        names: Of the weights.
        settings: Of the optimizer, where they are not those of all.
        lr_scale: A factor of the learning rate.
        frozen: Whether the weights stay as they are.
    """

    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lr_scale: float = 1.0
    frozen: bool = False


def optimizer_arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the optimizer's class."""
    return {key: value for key, value in node.items() if key not in (GROUPS, LAYER_DECAY)}


def param_groups(node: Mapping[str, Any], model: nn.Module) -> list[ParamGroup]:
    """Return the param groups that an optimizer's config node describes: first the weights in none.

    A weight is in the first group whose ``where`` selects it.

    Args:
        node: ``groups``, each with ``where``, ``frozen``, ``lr_scale`` and settings of the
            optimizer, and ``layer_decay``.
        model: Whose weights they are.

    Raises:
        UserError: For a group that selects nothing, or is malformed.
    """
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    left, groups = dict.fromkeys(trained), []
    for number, group in enumerate(_described(node)):
        key = f"optimizer.{GROUPS}.{number}"
        where, frozen, scale = _read(group, key)
        names = tuple(name for name in _selected(model, where, frozen, key) if name in left or frozen)
        if not names:
            raise UserError(f"{key}.where={where}: all of these weights are in an earlier group")
        for name in names:
            left.pop(name, None)
        settings = {name: value for name, value in group.items() if name not in (_WHERE, _FROZEN, _SCALE)}
        if set(group) == {_WHERE}:
            raise UserError(f"{key} sets nothing: give it lr, lr_scale, frozen: true, ..., or leave it out")
        if "lr" in settings and _SCALE in group:
            raise UserError(f"{key}: lr_scale is a factor of optimizer.lr, and lr is given too: leave one of them out")
        if frozen and (settings or scale != 1):
            raise UserError(f"{key}: frozen weights have no {next(iter(settings), _SCALE)}; leave it out")
        groups.append(ParamGroup(names, settings, scale, frozen))
    if left:
        groups.insert(0, ParamGroup(tuple(left)))
    return _decayed(groups, node, [name for name, _ in model.named_parameters()])


def frozen_names(node: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Return the weights that the groups of a config node freeze.

    Args:
        node: Of the optimizer.
        model: Whose weights they are.

    Raises:
        UserError: If nothing is left to train.
    """
    groups = param_groups(node, model) if node.get(GROUPS) else []
    if groups and all(group.frozen for group in groups):
        raise UserError(f"optimizer.{GROUPS}: all weights are frozen, and none is left to train")
    return [name for group in groups if group.frozen for name in group.names]


def arranged(
    groups: Sequence[ParamGroup], weights: Mapping[str, Tensor], lr: float | None
) -> list[dict[str, Any]] | list[Tensor]:
    """Return what ``torch.optim`` is given: the weights, or a dict for each group.

    Args:
        groups: Of the weights.
        weights: Those that are trained, by name.
        lr: Of the optimizer's node, or its class's default.

    Raises:
        UserError: For ``lr_scale`` where there is no learning rate.
    """
    groups = [group for group in groups if not group.frozen]
    if len(groups) == 1 and not groups[0].settings and groups[0].lr_scale == 1:
        return list(weights.values())
    made = []
    for group in groups:
        settings = dict(group.settings)
        if group.lr_scale != 1:
            rate = settings.get("lr", lr)
            if rate is None:
                raise UserError("optimizer.lr is needed beside lr_scale and layer_decay: give it")
            settings["lr"] = rate * group.lr_scale
        made.append({"params": [weights[name] for name in group.names if name in weights], **settings})
    return [group for group in made if group["params"]]


def check_settings(groups: Sequence[ParamGroup], optimizer: Optimizer, arguments: Mapping[str, Any]) -> None:
    """Raise UserError for a setting that the optimizer does not have, or does not take.

    Args:
        groups: Of the weights.
        optimizer: Of them.
        arguments: Of its class, which checks the settings of a group as it does its own.
    """
    cls, key = type(optimizer), f"optimizer.{GROUPS}"
    taken = inspect.signature(cls).parameters
    for group in groups:
        for name in group.settings:
            if name not in optimizer.defaults:
                known = [*optimizer.defaults, _WHERE, _FROZEN, _SCALE]
                raise UserError(f"{key}: the optimizer has no {name}; {nearest(name, known)}")
        settings = {name: value for name, value in group.settings.items() if name in taken}
        weights = optimizer.param_groups[0]["params"][:1]
        if settings:
            construct(cls, {**arguments, **settings, "params": weights}, key)


def layers_of(names: Sequence[str]) -> list[int]:
    """Return the number of each weight's layer, from the inputs on.

    Layers are numbered parts of a model (``blocks.3``, ``layer1.0``), and what stands before,
    between and behind them; where nothing is numbered, each module with weights is one.

    Example:
        >>> layers_of(["embed.weight", "blocks.0.fc.weight", "blocks.1.fc.weight", "norm.weight", "head.weight"])
        [0, 1, 2, 3, 3]
    """
    numbered = [re.match(r"(?:.*?\.)?\d+(?=\.)", f"{name}") for name in names]
    keys: list[str] = []
    for name, match in zip(names, numbered, strict=True):
        if match is not None:
            keys.append(match.group())
        elif not any(numbered):
            keys.append(name.rpartition(".")[0])
        else:
            keys.append(keys[-1] if keys and keys[-1].startswith("beside ") else f"beside {len(keys)}")
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [order[key] for key in keys]


def _selected(model: nn.Module, where: str, frozen: bool, key: str) -> list[str]:
    """Return the names that ``where`` selects, of the trained weights; of all where they are to be
    frozen, which they may be already.
    """
    if frozen:
        everything = Named(dict(model.named_parameters()), kinds_of(model))
        if names := [name for name, _ in chosen(everything, where)]:
            return names
    try:
        check_selection(model, where)
    except ValueError as error:
        raise UserError(f"{key}.{error}") from error
    return [name for name, _ in selected(model, where)]


def _described(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = node.get(GROUPS) or []
    if not isinstance(groups, Sequence) or isinstance(groups, str) or not all(isinstance(g, Mapping) for g in groups):
        raise UserError(
            f"optimizer.{GROUPS} must be a list such as "
            "[{where: 'head.*', lr: 1e-3}, {where: 'embed.*', frozen: true}]"
        )
    return list(groups)


def _read(group: Mapping[str, Any], key: str) -> tuple[str, bool, float]:
    where, frozen, scale = group.get(_WHERE), group.get(_FROZEN, False), group.get(_SCALE, 1.0)
    if not isinstance(where, str) or not where.strip():
        raise UserError(f"{key} needs where=..., names and patterns of weights such as 'backbone.*'")
    if not isinstance(frozen, bool):
        raise UserError(f"{key}.frozen must be true or false, got {frozen}")
    if not _positive(scale):
        raise UserError(f"{key}.lr_scale must be > 0, got {scale}")
    if "lr" in group and not _positive(group["lr"]):
        raise UserError(f"{key}.lr must be > 0, got {group['lr']}; to keep weights as they are: frozen: true")
    return where, frozen, float(scale)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _decayed(groups: list[ParamGroup], node: Mapping[str, Any], names: Sequence[str]) -> list[ParamGroup]:
    """Split groups by layer, whose learning rates decay from the outputs to the inputs."""
    decay = node.get(LAYER_DECAY)
    if decay is None:
        return groups
    if not _positive(decay) or decay > 1:
        raise UserError(f"optimizer.{LAYER_DECAY} must be > 0 and <= 1, got {decay}")
    layer_of = dict(zip(names, layers_of(names), strict=True))
    deepest = max(layer_of.values())
    if not deepest:
        raise UserError(f"optimizer.{LAYER_DECAY}: the model has one layer only; leave it out")
    return [
        ParamGroup(members, group.settings, group.lr_scale * decay ** (deepest - layer), group.frozen)
        for group in groups
        for layer in sorted({layer_of[name] for name in group.names}, reverse=True)
        for members in [tuple(name for name in group.names if layer_of[name] == layer)]
    ]

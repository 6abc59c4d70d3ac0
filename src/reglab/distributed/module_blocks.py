"""Repeated blocks of a model (layers in ``Sequential`` or ``ModuleList``), or modules by name."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from reglab.core.errors import UserError, nearest

Named = list[tuple[str, nn.Module]]


def blocks(model: nn.Module) -> Named:
    """Return the modules with parameters that stand in an ``nn.Sequential`` or ``nn.ModuleList``,
    by their names.

    A ResNet's bottlenecks, a transformer's layers, an MLP's linear maps. Such containers in each
    other are opened, blocks are not: none lies in another. A module with several names is one
    block, under the first.
    """
    in_container = {id(child) for parent in model.modules() if _is_container(parent) for child in parent.children()}
    candidates = [
        (name, module) for name, module in model.named_modules() if id(module) in in_container and _has_work(module)
    ]
    inside = {id(inner) for _, block in candidates for inner in block.modules() if inner is not block}
    return [(name, block) for name, block in candidates if id(block) not in inside]


def matching(model: nn.Module, where: bool | str | Sequence[str], key: str) -> Named:
    """Return the modules that ``where`` chooses, by their names, in the order of the model.

    Args:
        where: True for ``blocks``, False for none, or patterns over module names, ``*`` being a
            wildcard, as a list or separated by spaces: ``layers.* head``. Of modules in each other
            that one pattern fits, it means the outermost.
        key: The name of the setting, for messages.

    Raises:
        UserError: If True finds no blocks, or a pattern no module.
    """
    # Lists of modules have no forward of their own: to choose one would do nothing, silently.
    named = [pair for pair in model.named_modules(remove_duplicate=False) if pair[0] and not _is_list(pair[1])]
    if isinstance(where, bool):
        chosen_blocks = blocks(model) if where else []
        if where and not chosen_blocks:
            raise UserError(
                f"{key}=true: the model holds no nn.Sequential or nn.ModuleList to find its blocks by; name modules "
                f"instead, as in {key}={named[0][0] if named else 'layers.*'}"
            )
        return chosen_blocks
    parts = (where.split() or [where]) if isinstance(where, str) else where
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{key}={where!r} must be true, false, or patterns over module names such as layers.*")
    chosen = {name for part in parts for name in _fitting(part, [name for name, _ in named], key)}
    once: dict[int, tuple[str, nn.Module]] = {}
    for name, module in named:
        if name in chosen:
            once.setdefault(id(module), (name, module))
    return list(once.values())


def _fitting(pattern: str, names: Sequence[str], key: str) -> list[str]:
    fitting = [name for name in names if fnmatchcase(name, pattern)]
    if not fitting:
        raise UserError(f"{key}={pattern!r} fits none of the model's modules; {nearest(pattern, names)}")
    return [name for name in fitting if not any(name.startswith(f"{other}.") for other in fitting)]


def _is_container(module: nn.Module) -> bool:
    # The list that a parametrization keeps in its module is no list of layers.
    return isinstance(module, nn.Sequential | nn.ModuleList) and not isinstance(module, ParametrizationList)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def _has_work(module: nn.Module) -> bool:
    return not _is_container(module) and any(True for _ in module.parameters())

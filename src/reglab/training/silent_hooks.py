"""Detect regularizer hooks on layers that the model never calls."""

import logging
from functools import cache, partial
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.data import Rows
from reglab.regularizers import Cocktail

_log = logging.getLogger(__name__)
_ROWS = 4
_SHOWN = 4  # layers named in a message


@cache
def warn_once(line: str) -> None:
    """Log ``line`` as a warning, the first time in this process."""
    _log.warning("%s", line)


class HookWatch:
    """Records which of the modules with hooks of ``cocktail`` are called, until ``remove``."""

    def __init__(self, model: nn.Module, cocktail: Cocktail) -> None:
        self._hooked = {name: paths for name, paths in cocktail.hooked.items() if paths}
        wanted = {path for paths in self._hooked.values() for path in paths}
        self._called: set[str] = set()
        self._handles = [
            module.register_forward_pre_hook(partial(self._note, path))
            for path, module in (model.named_modules() if wanted else ())
            if path in wanted
        ]

    def _note(self, path: str, *_: Any) -> None:
        self._called.add(path)

    @property
    def silent(self) -> dict[str, list[str]]:
        """The members with layers that were not called, and which these are."""
        left = {name: [path for path in paths if path not in self._called] for name, paths in self._hooked.items()}
        return {name: paths for name, paths in left.items() if paths}

    def report(self) -> None:
        """Warn, once per process, of layers that were not called.

        Raises:
            UserError: Where a member acts on none.
        """
        for name, paths in self.silent.items():
            shown = ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
            if len(paths) == len(self._hooked[name]):
                raise UserError(
                    f"regularizer.{name} has no effect on this model, which uses the weights of {shown} without "
                    "calling the layers, where nothing can be inserted: call them in its forward, or leave it out"
                )
            line = (
                f"regularizer.{name} does not act on {shown}: the model uses their weights without calling these layers"
            )
            if not getattr(rank_zero_only, "rank", 0):
                warn_once(line)

    def remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()


def check_hooks(model: nn.Module, cocktail: Cocktail, inputs: Tensor | Rows, index: Tensor) -> None:
    """Run a prepared model on a few rows, and warn of the cocktail's hooks that did not run.

    Model, cocktail and random state are left as they were. Where the model cannot be tried,
    training raises its error.

    Args:
        model: Prepared by the cocktail.
        cocktail: Whose hooks are checked.
        inputs: ``[rows, ...]``.
        index: int64 ``[rows]``, example numbers.

    Raises:
        UserError: Where none of a member's hooks ran.
    """
    watch = HookWatch(model, cocktail)
    if not watch.silent:
        return
    weight = next(model.parameters())
    rows = inputs[:_ROWS].to(weight.device, weight.dtype if inputs.is_floating_point() else inputs.dtype)
    training, kept = model.training, [buffer.clone() for buffer in model.buffers()]
    cocktail.keys.index = index[:_ROWS].to(cocktail.keys.step.device)
    cocktail.keys.begin()
    tried = False
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model.train()(rows)
        tried = True
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        pass
    finally:
        watch.remove()
        model.train(training)
        cocktail.keys.index = None
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), kept, strict=True):
                buffer.copy_(value)
    if tried:
        watch.report()

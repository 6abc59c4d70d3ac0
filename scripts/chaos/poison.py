"""A user's package for poisoned.py.

Jobs that ruin themselves, each in its own way, once they have taken some steps.

It lies in the working folder of the sweep, whose configuration trusts it.
"""

import functools
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from reglab.regularizers import Regularizer
from reglab.training.fused.pack import Pack
from reglab.training.solo import Solo

NONE, RAISES, NAN, RUNS_OUT, EXITS, ABORTS, KILLED = range(7)
_AFTER = 20  # steps: in the middle of training
_LIMIT = 1 << 30  # bytes beyond what the process has already


class Poison(Regularizer):
    """strength: which of the ways, 0 for none. One is an ordinary penalty that becomes NaN."""

    strength: Tensor

    def __init__(self, strength: float = 0.0) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=NONE, maximum=KILLED)

    def penalty(self, weights: Any) -> Tensor:
        """Return 0, and NaN from some step on where that is the way."""
        bad = (self.strength == NAN) & (self.keys.step >= _AFTER)
        return torch.where(bad, torch.nan, 0.0).to(next(iter(weights.values())).dtype)


def _act(way: int) -> None:
    if way == RAISES:
        raise ArithmeticError("poisoned: this job raises in the middle of training")
    if way == RUNS_OUT:
        _run_out()
    if way == EXITS:
        os._exit(3)
    if way == ABORTS:
        os.abort()
    if way == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)


def _run_out() -> NoReturn:
    """Ask for more memory than a limit lets the process have, as where a job's own limit is set."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _LIMIT, resource.RLIM_INFINITY))
    torch.zeros(16 * _LIMIT)
    raise AssertionError("the limit was not kept")


def _poisoned(step: Callable[..., Any], done: Callable[[Any], int], ways: Callable[[Any], list[int]]) -> Any:
    @functools.wraps(step)
    def poisoned(self: Any, *arguments: Any) -> Any:
        if done(self) == _AFTER:
            for way in ways(self):
                _act(way)
        return step(self, *arguments)

    return poisoned


# Not in a hook of the cocktail: those of a pack are traced once for all members, and have no number
# to look at.
Solo.step = _poisoned(
    Solo.step, lambda solo: int(solo.cocktail.keys.step), lambda solo: [_way(dict(solo.named_buffers()))]
)
Pack.step = _poisoned(
    Pack.step,
    lambda pack: pack.done(),
    lambda pack: [_way(dict(pack.experiments[place].cocktail.named_buffers())) for place in pack.job_indices],
)


def _way(buffers: dict[str, Tensor]) -> int:
    found = [value for name, value in buffers.items() if name.endswith("poison.strength")]
    return int(found[0]) if found else NONE

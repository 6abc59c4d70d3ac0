"""Take the measures of a run: which are due, and what they keep between calls."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from reglab.measures import Gap, Measure, Measured, Memorization

Kind = Literal["examples", "others"]
_STATE = "measures/"
States = dict[str, dict[str, Tensor]]


def due(measures: Mapping[str, Measure], kind: Kind, epoch: int, last: bool) -> dict[str, Measure]:
    """Return the measures of a kind that are taken after an epoch.

    Args:
        measures: By name.
        kind: ``examples``: the gap, and what is made of the same evaluation.
        epoch: Counted from 1; 0 is the untrained model.
        last: It is the last one.
    """
    wanted = kind == "examples"
    return {
        name: each
        for name, each in measures.items()
        if _is_of_examples(each) == wanted and (isinstance(each, Gap) or each.due(epoch, last))
    }


def _is_of_examples(measure: Measure) -> bool:
    return isinstance(measure, (Gap, Memorization)) or (
        bool(measure.needs) and measure.needs <= {"examples", "outputs"}
    )


def taken(view: Measured, measures: Mapping[str, Measure], states: States) -> dict[str, Tensor]:
    """Return the numbers of some measures, ``[members]`` by name; no random state is moved.

    Args:
        view: What they see.
        measures: By name.
        states: What each keeps, by its name; changed.
    """
    metrics: dict[str, Tensor] = {}
    for name, each in measures.items():
        metrics |= each.measure(view, states.setdefault(name, {}))
    return {key: value.detach() for key, value in metrics.items()}


def joint(states: States) -> dict[str, dict[str, Tensor]]:
    """Return states as they stand in a checkpoint beside weights: by prefixed name; empty ones left out."""
    return {_STATE + name: dict(kept) for name, kept in states.items() if kept}


def each_of(states: States, change: Callable[[Tensor], Tensor]) -> States:
    """Return states, each tensor changed.

    Args:
        states: Of measures.
        change: Of each tensor.
    """
    return {name: {key: change(value) for key, value in kept.items()} for name, kept in states.items()}


def states_of(
    saved: Mapping[str, Mapping[str, Tensor]], device: torch.device, change: Callable[[Tensor], Tensor]
) -> States:
    """Return what ``joint`` put among a checkpoint's entries.

    Args:
        saved: The entries.
        device: Where to.
        change: Of each tensor.
    """
    return {
        name.removeprefix(_STATE): {key: change(value.to(device, copy=True)) for key, value in kept.items()}
        for name, kept in saved.items()
        if name.startswith(_STATE)
    }

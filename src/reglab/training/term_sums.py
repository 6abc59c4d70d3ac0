"""Means of the objective's terms over the examples of an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class TermSums:
    """Keeps each term's value at every step until it is asked for the mean.

    The values are added up once, at the end: adding as they come would round by where batches were
    cut, and a resumed run cuts them elsewhere.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._rows: list[int] = []

    def add(self, terms: Mapping[str, Tensor], rows: Sequence[int]) -> None:
        """Add the values of some steps, each [steps].

        Args:
            rows: How many examples each step had.
        """
        for name in terms.keys() - self._values.keys():  # not there before: zero until now
            self._values[name] = [terms[name].new_zeros(len(self._rows))]
        for name, values in self._values.items():
            values.append(terms[name] if name in terms else values[0].new_zeros(len(rows)))
        self._rows.extend(rows)

    def take(self) -> dict[str, Tensor]:
        """Return each term's mean over the examples since the last call, and start anew."""
        means = {}
        for name, values in self._values.items():
            steps = _concatenated(values)
            weights = torch.tensor(self._rows, dtype=steps.dtype, device=steps.device)
            means[name] = (steps * weights).sum() / sum(self._rows)
        self._values, self._rows = {}, []
        return means

    def state_dict(self) -> dict[str, Any]:
        return {
            "values": {name: _concatenated(values) for name, values in self._values.items()},
            "rows": list(self._rows),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._values = {name: [values] for name, values in state["values"].items()}
        self._rows = list(state["rows"])


def _concatenated(values: Sequence[Tensor]) -> Tensor:
    """Return the values in one tensor, on the device of the latest: those of a checkpoint come on
    the CPU.
    """
    return torch.cat([each.to(values[-1].device) for each in values])

"""Means of the objective's terms over the examples of an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class TermSums:
    """Keeps each term's value at every step until it is asked for the mean: of one job,
    ``[steps]``, or of the members of a pack, ``[steps, members]``.

    The values are added up once, at the end, and for each member by itself: adding as they come
    would round by where batches were cut, and a resumed run cuts them elsewhere; adding side by
    side would round by how many members there are.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._rows: list[int] = []

    def add(self, terms: Mapping[str, Tensor], rows: Sequence[int]) -> None:
        """Add the values of some steps.

        Args:
            terms: ``[steps]`` or ``[steps, members]`` by name.
            rows: How many examples each step had.
        """
        for name in terms.keys() - self._values.keys():  # not there before: zero until now
            self._values[name] = [_zeros(terms[name], len(self._rows))]
        for name, values in self._values.items():
            values.append(terms[name] if name in terms else _zeros(values[0], len(rows)))
        self._rows.extend(rows)

    def keep(self, members: Sequence[int]) -> None:
        """Keep the values of these members only."""
        self._values = {name: [each[:, list(members)] for each in values] for name, values in self._values.items()}

    def take(self) -> dict[str, Tensor]:
        """Return each term's mean over the examples since the last call, 0-dim or ``[members]``,
        and start anew.
        """
        means = {}
        for name, values in self._values.items():
            by_member = _concatenated(values).movedim(0, -1)  # [..., steps]
            weights = torch.tensor(self._rows, dtype=by_member.dtype, device=by_member.device)
            means[name] = (by_member * weights).contiguous().sum(-1) / sum(self._rows)
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


def _zeros(like: Tensor, steps: int) -> Tensor:
    return like.new_zeros(steps, *like.shape[1:])


def _concatenated(values: Sequence[Tensor]) -> Tensor:
    """Return the values in one tensor, on the device of the latest: those of a checkpoint come on
    the CPU.
    """
    return torch.cat([each.to(values[-1].device) for each in values])

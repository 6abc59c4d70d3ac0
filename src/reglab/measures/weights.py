"""Weight statistics: norms, spread, zeros, distance and update."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

STATISTICS = ("l1", "l2", "max", "mean", "std", "zeros", "near_zeros", "distance", "update")
_LARGEST, _L1, _TOTAL, _AROUND = 0, 1, 2, 8  # rows of a table of sums
_CHUNK = 131_072  # values of a parameter that are read at once: 512 KiB in float32
_NARROWEST = 2_048  # of each member

_State = tuple[Tensor, Tensor, Tensor]  # now, at the start, before the last updates


class Whole(NamedTuple):
    """How to measure whole weights of which each rank holds a part, perhaps an empty one; no
    element stands twice.

    Args:
        add, largest: The sum and the maximum over ranks of a tensor of any shape, elementwise, as a
            new tensor. Every rank calls them in the same order.
        sizes: The number of elements of each whole parameter (stacked: of each member's).
    """

    add: Callable[[Tensor], Tensor]
    largest: Callable[[Tensor], Tensor]
    sizes: Mapping[str, int]


def weight_statistics(
    weights: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    previous: Mapping[str, Tensor],
    near_zero: float = 1e-3,
    per_layer: bool = True,
    stacked: bool = False,
    whole: Whole | None = None,
) -> dict[str, Tensor]:
    """Return ``weights/<parameter>/<statistic>`` and ``weights/all/<statistic>``, 0-dim tensors on
    the weights' device.

    - ``l1 = sum |w|``, ``l2 = sqrt(sum w^2)``, ``max = max |w|``, ``mean``, ``std`` (divided by n,
      not n - 1)
    - ``zeros``: fraction of weights that are exactly 0
    - ``near_zeros``: fraction with ``|w| <= near_zero * max |w|`` of the same parameter, exact
      zeros included
    - ``distance = ||w - initial||``
    - ``update = ||w - previous|| / ||previous||``; 0 where nothing moved, huge from all zeros

    ``all`` speaks of all weights as one vector, computed from each parameter's sums; its
    ``near_zeros`` judges a weight beside the largest of its own parameter. Half-precision weights
    are measured in float32.

    Args:
        weights, initial, previous: The same names and shapes, any shape.
        near_zero: >= 0. Nothing is copied to the host: see ``numbers.to_floats``. Empty if there
            are no weights.
        stacked: All have a first axis of members, and so have the statistics, ``[members]``.
        whole: The tensors are this rank's parts, and every rank gets the numbers of the whole; sums
            travel, in three collectives, never weights.

    Example:
        >>> weights = {"layer.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]])}
        >>> now = weight_statistics(weights, initial=weights, previous=weights)
        >>> float(now["weights/all/l2"]), float(now["weights/all/zeros"]), float(now["weights/all/distance"])
        (5.0, 0.5, 0.0)
    """
    if not weights:
        return {}
    states = [
        (_rows(weight, stacked), _rows(initial[name], stacked), _rows(previous[name], stacked))
        for name, weight in weights.items()
    ]
    if whole is None:
        counts = [now.shape[1] for now, _, _ in states]
        sums = torch.stack([_of_whole(state, near_zero) for state in states], dim=1)
    else:
        counts = [whole.sizes[name] for name in weights]
        sums = _of_parts(states, counts, near_zero, whole)
    sizes = torch.tensor(counts, dtype=sums.dtype, device=sums.device).unsqueeze(1)
    names, table = ["all"], _statistics(_joined(sums, sizes), sizes.sum())
    if per_layer:
        names, table = ["all", *weights], torch.cat([table, _statistics(sums, sizes)], dim=1)
    table = table.to(reduce(torch.promote_types, [_wide(now).dtype for now, _, _ in states]))
    keys = [f"weights/{name}/{statistic}" for statistic in STATISTICS for name in names]
    return dict(zip(keys, (table if stacked else table.squeeze(2)).flatten(0, 1).unbind(), strict=True))


def _of_whole(state: _State, near_zero: float) -> Tensor:
    """Return one parameter's sums, ``[sums, members]``: those of ``_sums``, and how many are near zero."""
    sums = _sums(state)
    return torch.cat([sums, _near(state[0], near_zero * sums[_LARGEST]).unsqueeze(0)])


def _of_parts(states: Sequence[_State], counts: Sequence[int], near_zero: float, whole: Whole) -> Tensor:
    """Return the sums ``[sums, parameters, members]`` of the whole, in two passes: its means and maxima
    come first.
    """
    local_sums = torch.stack([_sums(state) for state in states], dim=1)
    added, largest = whole.add(local_sums[_L1:_AROUND]), whole.largest(local_sums[_LARGEST])
    # A maximum over ranks may pass over NaN; a sum does not.
    largest = torch.where(added[0].isnan(), added[0], largest)
    sums = torch.cat([largest.unsqueeze(0), added])
    columns = []
    for (now, *_), count, local, total, limit in zip(
        states, counts, local_sums.unbind(1), sums[_TOTAL], near_zero * largest, strict=True
    ):
        apart = local[_TOTAL] / max(now.shape[1], 1) - total / count
        columns.append(torch.stack([local[_AROUND] + now.shape[1] * apart.square(), _near(now, limit)]))
    return torch.cat([sums, whole.add(torch.stack(columns, dim=1))])


def _rows(weight: Tensor, stacked: bool) -> Tensor:
    """Return a view ``[members, size]``."""
    return weight.detach().flatten(1) if stacked else weight.detach().reshape(1, -1)


def _wide(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight


def _sums(state: _State) -> Tensor:
    """Return the largest ``|w|``, and the sums of ``|w|``, ``w``, ``w^2``, zeros, squared distances,
    squared updates, squares before them and squares around the mean, ``[sums, members]``.
    """
    chunks, sizes = [], []
    for buffer, now, start, before in _chunks(*state):
        total, squares = now.sum(1), torch.mul(now, now, out=buffer).sum(1)
        mean = (total / max(now.shape[1], 1)).unsqueeze(1)
        moves = [torch.sub(now, other, out=buffer).square_().sum(1) for other in (start, before)]
        moves += [torch.mul(before, before, out=buffer).sum(1), torch.sub(now, mean, out=buffer).square_().sum(1)]
        size = torch.abs(now, out=buffer)
        largest = size.amax(1) if size.shape[1] else total
        chunks.append(torch.stack([largest, size.sum(1), total, squares, size.le_(0).sum(1), *moves]))
        sizes.append(now.shape[1])
    table = _precise(torch.stack(chunks, dim=1))
    return _joined(table, torch.tensor(sizes, dtype=table.dtype, device=table.device).unsqueeze(1)).squeeze(1)


def _near(weights: Tensor, limit: Tensor) -> Tensor:
    """Return how many sizes are ``<= limit``, ``[members]``."""
    # In place, 0 or 1 as floats: a fifth of the time of a bool tensor.
    counts = [
        torch.abs(now, out=buffer).le_(limit.to(now.dtype).unsqueeze(1)).sum(1) for buffer, now in _chunks(weights)
    ]
    return _precise(torch.stack(counts)).sum(0)


def _chunks(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Yield a buffer, then the same columns of each tensor: on a CPU so few that all sums find them in
    the cache. New tensors in place of the buffer would take longer than what is computed.
    """
    members, size = tensors[0].shape
    width = max(_CHUNK // members, _NARROWEST) if tensors[0].device.type == "cpu" else max(size, 1)
    buffer = torch.empty(0)
    for parts in zip(*(torch.split(each, width, 1) for each in tensors), strict=True):
        wide = [_wide(part) for part in parts]
        if buffer.shape != wide[0].shape:
            buffer = wide[0].new_empty(wide[0].shape)
        yield [buffer, *wide]


def _precise(sums: Tensor) -> Tensor:
    return sums.double() if sums.device.type == "cpu" else sums


def _joined(sums: Tensor, sizes: Tensor) -> Tensor:
    """Return the sums ``[sums, 1, members]`` of parameters, or of chunks of one, as one vector."""
    whole = sums.sum(1, keepdim=True)
    whole[_LARGEST] = sums[_LARGEST].amax(0)
    # Squares around the common mean: those around each one's own, plus what the means differ
    # (Chan et al. 1979).
    apart = sums[_TOTAL] / sizes.clamp(min=1) - whole[_TOTAL] / sizes.sum().clamp(min=1)
    whole[_AROUND] += (sizes * apart.square()).sum(0)
    return whole


def _statistics(sums: Tensor, sizes: Tensor) -> Tensor:
    """Return the statistics ``[statistics, parameters, ...]`` in the order of ``STATISTICS``."""
    largest, l1, total, squares, zeros, distance, moved, before, around, near = sums
    return torch.stack(
        [
            l1,
            squares.sqrt(),
            largest,
            total / sizes,
            (around / sizes).sqrt(),
            zeros / sizes,
            near / sizes,
            distance.sqrt(),
            (moved / before.clamp(min=torch.finfo(sums.dtype).tiny)).sqrt(),
        ]
    )

"""Ranks as threads: sharded training in one process, where every collective waits for all."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from reglab.regularizers import Cocktail
from reglab.regularizers.parameter_kinds import parameter_kinds

Answer = TypeVar("Answer")


def cut(tensor: Tensor, parts: int) -> list[Tensor]:
    """Return parts of the first axis as FSDP2 cuts them: equally long, then a shorter one, then empty ones."""
    length = -(-len(tensor) // parts)
    return [tensor[place * length : (place + 1) * length].detach().clone() for place in range(parts)]


class Parts:
    """What the regularizers of one rank are given as the model: the names and this rank's parts, buffers and kinds."""

    def __init__(self, parts: Mapping[str, Tensor], model: nn.Module | None = None) -> None:
        self._parts = parts
        self._buffers = {} if model is None else {name: buffer.clone() for name, buffer in model.named_buffers()}
        self.kinds = {} if model is None else parameter_kinds(model)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._parts.items()

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._buffers.items()


def cut_model(model: nn.Module, parts: int) -> list[Parts]:
    shards = {name: cut(weight, parts) for name, weight in model.named_parameters()}
    return [Parts({name: part[rank] for name, part in shards.items()}, model) for rank in range(parts)]


def cut_cocktail(cocktail: Cocktail, parts: int, total: Callable[[Tensor], Tensor]) -> list[Cocktail]:
    """Return a cocktail for each rank, whose state in a parameter's shape is cut as the parameter is."""
    ranks = [copy.deepcopy(cocktail) for _ in range(parts)]
    for rank, own in enumerate(ranks):
        own.bind(total=total)
        for _, member in own.named_regularizers():
            for slot in member.shaped:
                setattr(member, slot, cut(getattr(member, slot), parts)[rank])
    return ranks


def joined(ranks: list[Parts]) -> dict[str, Tensor]:
    """Return the whole parameters."""
    states = [dict(rank.named_parameters()) for rank in ranks]
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


class Ranks:
    """Runs the same work on every rank, and keeps in ``calls`` which collectives each made, in order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.calls: list[str] = []
        self._barrier = threading.Barrier(count)
        self._mine = threading.local()
        self._given: list[tuple[str, Tensor]] = [("", torch.empty(0))] * count

    def run(self, work: Callable[[int], Answer]) -> list[Answer]:
        """Return what ``work(rank)`` answers on each rank."""

        def one(rank: int) -> Answer:
            self._mine.rank = rank
            try:
                return work(rank)
            except BaseException:
                self._barrier.abort()  # or the others would wait for ever
                raise

        with ThreadPoolExecutor(self.count) as pool:
            answers = [pool.submit(one, rank) for rank in range(self.count)]
        failures = [error for answer in answers if (error := answer.exception())]
        for error in failures:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error  # the cause, not those that it left waiting
        return [answer.result() for answer in answers]

    def add(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._meet("add", tensor)).sum(0)

    def largest(self, tensor: Tensor) -> Tensor:
        # As of libraries whose maximum passes over NaN.
        return torch.stack(self._meet("largest", tensor)).nan_to_num(nan=-torch.inf, posinf=torch.inf).amax(0)

    def gather(self, part: Tensor) -> Tensor:
        """Return the whole of what is cut along the first axis."""
        return torch.cat(self._meet("gather", part))

    def _meet(self, call: str, tensor: Tensor) -> list[Tensor]:
        self._given[self._mine.rank] = (call, tensor.detach().clone())
        self._barrier.wait()
        met = list(self._given)
        if self._barrier.wait() == 0:
            self.calls.append(call)
        assert {name for name, _ in met} == {call}, "ranks make different collectives"
        if call != "gather":
            assert len({(part.shape, part.dtype) for _, part in met}) == 1, "ranks hand in different shapes"
        return [part for _, part in met]

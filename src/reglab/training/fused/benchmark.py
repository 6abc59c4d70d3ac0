"""Benchmark: seconds of a call, of two calls in turn, and free memory of a device."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

_REPEATS = 3


def seconds(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the median time of one call, after one that is not counted.

    Args:
        run: The function to time.
        device: Which it runs on.
        calls: Of each timing.

    Returns:
        Seconds of one call.
    """
    run()
    return statistics.median(_timed(run, device, calls) for _ in range(_REPEATS))


def compare(fused: Callable[[], object], solo: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the seconds of a fused step and of a solo step, measured alternately, for equal times:
    the best of each.
    """
    calls = max(1, round(seconds(fused, device) / max(seconds(solo, device), 1e-6)))
    pairs = [(seconds(fused, device), seconds(solo, device, calls)) for _ in range(_REPEATS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def free_memory(device: torch.device) -> int:
    """Return the free memory of ``device``, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class Benchmark:
    """The measurements that choices are made from.

    Args:
        seconds: As the function ``seconds``.
        compare: As ``compare``.
        free_memory: As ``free_memory``.
    """

    seconds: Callable[..., float] = seconds
    compare: Callable[..., tuple[float, float]] = compare
    free_memory: Callable[[torch.device], int] = free_memory


def _timed(run: Callable[[], object], device: torch.device, calls: int) -> float:
    _wait(device)
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    _wait(device)
    return (time.perf_counter() - begin) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

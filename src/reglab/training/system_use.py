"""Epoch time, memory and GPU memory, as metrics."""

import time

import psutil
import torch


class SystemUse:
    """Called at each record, returns the seconds since the last one and the memory in use,
    in MB.
    """

    def __init__(self) -> None:
        self._clock = time.monotonic()
        self._process = psutil.Process()

    def __call__(self) -> dict[str, float]:
        now = time.monotonic()
        used = {"system/seconds": now - self._clock, "system/memory_mb": self._process.memory_info().rss / 1e6}
        self._clock = now
        if torch.cuda.is_available():
            used["system/gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
        return used

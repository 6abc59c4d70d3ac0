"""How often a step makes the host wait for a GPU: by torch's profiler, and by its own warnings."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from devices_cases import Case, at_updates, tracked

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy")
# Once a chunk, for the chunk before; not waited for.
HARMLESS = ("cudaEventSynchronize", "cudaMemcpyAsync")


def waits_of(case: Case, folder: Path) -> tuple[Counter[str], list[str], int]:
    """Return calls by name, the lines that were warned of, and the number of steps, between two updates of a run."""
    first = max(case.first, 40)  # between two chunks of 32, where Lightning's loop goes round
    last = max(first + 30, min(case.last, first + 70))
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(activities=activities)

    def at(update: int) -> None:
        if update == first:
            profiler.start()
            torch.cuda.set_sync_debug_mode("warn")
        if update == last:
            torch.cuda.set_sync_debug_mode("default")
            profiler.stop()

    with at_updates(at), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracked(case, folder)()
    # From the end of one update to the end of another: starting and ending the profiler waits for
    # the device, too.
    events = list(profiler.events() or [])
    ends = sorted(event.time_range.end for event in events if event.name.startswith("Optimizer.step"))[:-1]
    inside = [event.name for event in events if ends[0] <= event.time_range.start <= ends[-1]]
    told = [f"{each.filename}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)]
    return Counter(inside), told, len(ends) - 1


def warned(told: Sequence[str]) -> list[tuple[str, int]]:
    """Return the lines that were warned of most, with how often."""
    return Counter(told).most_common(5) or [("no line", 0)]

"""GPUs of a sweep: which ones, how many a job needs, GPU slots for jobs. No torch, no CUDA."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any

from reglab.analysis.formatting import plural
from reglab.core.errors import UserError
from reglab.launchers.local import count_workers

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ALL_OF_SLOT = (None, "auto", -1, "-1")  # as many as the slot has


def visible_gpus(setting: object = None) -> tuple[str, ...]:
    """Return the GPUs that a sweep may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        setting: ``hydra.launcher.gpus``; None for all that this process sees.

    Raises:
        UserError: The setting is not a list of GPUs, names one twice, or one that is not visible.
    """
    variable = os.environ.get(VISIBLE)
    visible = _parse_visible(variable) if variable is not None else None
    if setting is None:
        return visible if visible is not None else _installed_gpus()
    if isinstance(setting, str) or not isinstance(setting, Iterable) or isinstance(setting, Mapping):
        raise UserError(f"hydra.launcher.gpus must be null (all) or a list such as [0,1], got {setting!r}")
    chosen = tuple(str(gpu) for gpu in setting)
    for gpu in chosen:
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", gpu):
            raise UserError(f"hydra.launcher.gpus: {gpu!r} is not a GPU; give numbers, or ids as in nvidia-smi -L")
        if visible is not None and gpu not in visible:
            raise UserError(
                f"hydra.launcher.gpus: GPU {gpu} is not among {VISIBLE}={variable}, which this process sees"
            )
    if len(set(chosen)) < len(chosen):
        raise UserError(f"hydra.launcher.gpus={list(chosen)} names a GPU twice; for two jobs on one, set workers")
    return chosen


def _parse_visible(text: str) -> tuple[str, ...]:
    """Return the devices that CUDA_VISIBLE_DEVICES names, up to the first invalid one (``-1``)."""
    names = [name.strip() for name in text.split(",")]
    return tuple(takewhile(lambda name: name and not name.startswith("-"), names))


@cache
def _installed_gpus() -> tuple[str, ...]:
    """Return all GPUs of this machine by ``nvidia-smi``: numbers, or ids of MIG partitions."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # there is no driver, or no device
        return ()
    gpus: list[str] = []
    for number, part in re.findall(r"^GPU (\d+):(.*(?:\n[ \t].*)*)", listing, flags=re.MULTILINE):
        gpus += re.findall(r"\(UUID: (MIG-[^)]+)\)", part) or [number]
    return tuple(gpus)


def devices_needed(trainer: Mapping[str, Any], gpus: Sequence[str]) -> int | None:
    """Return how many devices a job needs on this machine; None for all GPUs of its slot.

    Args:
        trainer: Of its config.
        gpus: Those that the sweep may use.

    Raises:
        UserError: The job asks for several nodes, named devices, or more GPUs than there are.
    """
    nodes = trainer.get("num_nodes", 1)
    if nodes != 1:
        raise UserError(f"trainer.num_nodes={nodes}: hydra/launcher=process trains jobs on one machine; leave it out")
    devices, on_gpus = trainer.get("devices"), _uses_gpus(trainer, gpus)
    if devices in _ALL_OF_SLOT:
        return None if on_gpus else 1  # Lightning's own meaning on a CPU
    count = _device_count(devices)
    if count < 1:
        raise UserError(f"trainer.devices={devices} is not a number of devices; give one above 0, such as 2")
    if on_gpus and count > len(gpus):
        raise UserError(
            f"trainer.devices={devices}, but this sweep may use only {plural(len(gpus), 'GPU')} ({', '.join(gpus)}); "
            "see hydra.launcher.gpus"
        )
    return count


def _uses_gpus(trainer: Mapping[str, Any], gpus: Sequence[str]) -> bool:
    return bool(gpus) and trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")


def _device_count(devices: object) -> int:
    """Return the number that ``trainer.devices`` means inside a slot; 0 where it means none."""
    if isinstance(devices, str) and re.fullmatch(r"\d+", devices):
        return int(devices)
    if isinstance(devices, list) and [str(each) for each in devices] == [str(each) for each in range(len(devices))]:
        return len(devices)
    if isinstance(devices, list):
        raise UserError(
            f"trainer.devices={devices} names devices, but hydra/launcher=process assigns them. Give their number, "
            "and list in hydra.launcher.gpus the GPUs that the sweep may use"
        )
    return devices if isinstance(devices, int) and not isinstance(devices, bool) else 0


def gpu_slots(
    trainers: Sequence[Mapping[str, Any]], gpus: Sequence[str], workers: int | None, threads: int
) -> list[tuple[str, ...]]:
    """Return the GPUs of each job slot; empty tuples where jobs train on the CPU.

    Without ``workers`` there are as many slots as GPUs for the largest job, or as physical cores
    for its threads. With more slots than GPUs, slots share a GPU.

    Args:
        trainers: The trainer config of each job.
        gpus: The GPUs that the sweep may use.
        workers: The number of slots, if it is set.
        threads: CPU threads of each process.
    """
    counts = [devices_needed(trainer, gpus) for trainer in trainers]
    largest = max((count_needed for count_needed in counts if count_needed), default=1)
    if not any(_uses_gpus(trainer, gpus) for trainer in trainers):
        return [()] * count_workers(workers, threads if workers else threads * largest)
    most_slots = len(gpus) // largest
    count = count_workers(workers or most_slots, threads)
    per_slot = max(largest, len(gpus) // count) if None in counts else largest
    return [tuple(gpus[(slot * per_slot + offset) % len(gpus)] for offset in range(per_slot)) for slot in range(count)]

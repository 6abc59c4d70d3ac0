"""Expand ``sweep.blocks``, ``sweep.seeds`` and the command line to the list of jobs.

Hydra crosses every swept key with every other, and ``regularizer=[]`` crossed with
``regularizer.l1.strength=...`` cannot be composed. A block is a mapping ``key -> value`` of its
own; blocks are not crossed with each other, only with the command line's sweeps and the seeds.
Seeds change slowest: an interrupted sweep has fewer seeds, not fewer strengths.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from reglab.config.sweep_functions import MOST_JOBS, grammar, values
from reglab.core.errors import UserError
from reglab.core.override import in_grammar

GROUP = "regularizer"
SWEEPER_KEYS = ("sweep.blocks", "sweep.seeds")  # read by the sweeper itself, never sent to a job


@dataclass(frozen=True)
class Job:
    """One training run of a sweep.

    Attributes:
        number: Its number in the sweep.
        block: The label of its block.
        overrides: The Hydra overrides that compose it.
    """

    number: int
    block: str
    overrides: tuple[str, ...]


Axes = dict[str, list[str]]  # key -> its values as override text


def expand(
    arguments: Sequence[str],
    blocks: Sequence[Mapping[str, Any]] = (),
    seeds: int | Sequence[int] | None = None,
    regularizers: Sequence[str] = (),
    loader: ConfigLoader | None = None,
) -> list[Job]:
    """Return the jobs: seeds x blocks x the command line's sweeps, seeds changing slowest.

    Args:
        arguments: The command line's overrides.
        blocks: ``sweep.blocks``.
        seeds: A list, or a count n for 0 ... n-1.
        regularizers: Of the config, for the label where neither block nor command line choose any.
        loader: Hydra's, for ``glob(...)``.

    Raises:
        UserError: A key is set twice, or a value cannot be read.
    """
    command_axes = _axes(arguments, loader)
    block_axes = [_block(number, block) for number, block in enumerate(blocks)] or [{}]
    for number, axes in enumerate(block_axes):
        _check_disjoint(
            command_axes,
            axes,
            f"sweep.blocks[{number}]",
            "leave {value} out, or switch all blocks off: sweep.blocks=[]",
        )
    seed_axis = _seed_axis(seeds)
    for axes in (command_axes, *block_axes):
        _check_disjoint(
            axes, seed_axis, "sweep.seeds", "leave one of them out (sweep.seeds=null switches the list off)"
        )
    count = _count(seed_axis) * sum(_count({**command_axes, **axes}) for axes in block_axes)
    if count > MOST_JOBS:
        raise UserError(f"the sweep has {count:,} jobs, and at most {MOST_JOBS:,} are run: sweep over fewer values")
    labels = _labels(block_axes)
    jobs: list[Job] = []
    for seed in _product(seed_axis):
        for label, axes in zip(labels, block_axes, strict=True):
            for settings in _product({**command_axes, **axes}):
                overrides = (*settings, *seed)
                block = label or _chosen_regularizers(overrides) or _joined_names(regularizers)
                jobs.append(Job(len(jobs), block, overrides))
    return jobs


def _axes(arguments: Sequence[str], loader: ConfigLoader | None) -> Axes:
    parser = grammar(loader)
    axes: Axes = {}
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_interval_sweep():
            raise UserError(
                f"{override.input_line}: an interval cannot be enumerated; use linear(low,high,n) or log(...)"
            )
        if override.key_or_group not in SWEEPER_KEYS:
            axes[key] = [key] if override.is_delete() and override.value() is None else _settings(key, override)
    return axes


def _block(number: int, block: Mapping[str, Any]) -> Axes:
    if not isinstance(block, Mapping):
        raise UserError(f"sweep.blocks[{number}] must be a mapping of keys to values, got {block!r}")
    return {key: _settings(key, _parse(f"sweep.blocks[{number}]", key, value)) for key, value in block.items()}


def _settings(key: str, override: Override) -> list[str]:
    return [f"{key}={value}" for value in values(override)]


def _parse(where: str, key: str, value: Any) -> Override:
    """Parse an entry of a block: text as on the command line, a list as one value."""
    text = value if isinstance(value, str) else in_grammar(value)
    try:
        return grammar().parse_override(f"{key}={text}")
    except HydraException as error:
        raise UserError(f"{where}: cannot read {key}: {value!r} ({error.__cause__ or error})") from error


def _seed_axis(seeds: int | Sequence[int] | None) -> Axes:
    if seeds is None:
        return {}
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        numbers: Any = list(range(min(seeds, MOST_JOBS + 1)))
    else:
        numbers = seeds
    if isinstance(numbers, (str, bool)) or not numbers or not all(type(seed) is int for seed in numbers):
        raise UserError(f"sweep.seeds must be a count above 0 or a list of integers, got {seeds!r}")
    return {"seed": [f"seed={seed}" for seed in numbers]}


def _check_disjoint(first: Axes, second: Axes, where: str, remedy: str) -> None:
    for key in first.keys() & second.keys():
        raise UserError(f"{key} is set twice: as {first[key][0]} and by {where}; {remedy.format(value=first[key][0])}")


def _count(axes: Axes) -> int:
    return math.prod(len(settings) for settings in axes.values())


def _product(axes: Axes) -> list[tuple[str, ...]]:
    return list(itertools.product(*axes.values()))


def _chosen_regularizers(overrides: Sequence[str]) -> str:
    for override in overrides:
        if override.startswith(f"{GROUP}="):
            return _label({GROUP: [override]})
    return ""


def _label(axes: Axes) -> str:
    """Return the block's regularizers joined by ``+``; empty unless it chooses one list."""
    choices = axes.get(GROUP, [])
    if len(choices) != 1:
        return ""
    value = grammar().parse_override(choices[0]).value()
    return _joined_names([str(name) for name in value] if isinstance(value, list) else [str(value)])


def _joined_names(regularizers: Sequence[str]) -> str:
    return "+".join(name for name in regularizers if name != "none") or "none"


def _labels(block_axes: Sequence[Axes]) -> list[str]:
    """Return a label for each block; equal ones get what else the block fixes, or a number."""
    names = [_label(axes) for axes in block_axes]
    details = [
        _fixed_settings(axes) if name and names.count(name) > 1 else []
        for name, axes in zip(names, block_axes, strict=True)
    ]
    common = set.intersection(*map(set, filter(None, details))) if any(details) else set()
    labels = []
    for name, detail in zip(names, details, strict=True):
        distinct = [setting for setting in detail if setting not in common]
        labels.append(f"{name} ({', '.join(distinct)})" if distinct else name)
    return [
        f"{label} #{labels[: index + 1].count(label)}" if label and label in labels[:index] else label
        for index, label in enumerate(labels)
    ]


def _fixed_settings(axes: Axes) -> list[str]:
    return [settings[0] for key, settings in axes.items() if key != GROUP and len(settings) == 1]

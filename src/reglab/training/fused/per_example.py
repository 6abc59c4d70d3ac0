"""Per-example results of the members of a pack, from one evaluation."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from reglab.analysis.per_example_file import FILE, Examples
from reglab.measures.evaluate import evaluation_of
from reglab.training.fused.best import Best
from reglab.training.fused.evaluation import outputs_of
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import Stack
from reglab.training.per_example import examples_of_members, measured_rows

_CELLS = 2**22  # members times rows whose outputs are held at a time
_WRITERS = 16  # at once: the file system makes many files durable together


def final_examples(
    pack: Pack, measurement: PackMeasurement, best: Best, job_indices: Sequence[int]
) -> dict[int, Examples]:
    """Return the examples of the jobs ``job_indices``, by their numbers, with the weights that each
    stands for.

    Args:
        pack: Whose members end.
        measurement: With the measured rows.
        best: The best epochs.
        job_indices: Of the jobs that end.

    Returns:
        Examples by job index.
    """
    by_best = [job_index for job_index in job_indices if pack.base.cocktail.stops and best.record.epochs[job_index]]
    by_last = [job_index for job_index in job_indices if job_index not in by_best]
    step = max(1, _CELLS // max(measurement.rows.probe.inputs.length, measurement.rows.val.inputs.length))
    by_job: dict[int, Examples] = {}
    for first in range(0, len(job_indices), step):
        chunk = by_best[first : first + step]
        by_job |= _examples(pack, measurement, best.stack(chunk), chunk) if chunk else {}
        chunk = by_last[first : first + step]
        by_job |= _examples(pack, measurement, pack.stack_of(chunk), chunk) if chunk else {}
    return by_job


def _examples(
    pack: Pack, measurement: PackMeasurement, stacked: Stack, job_indices: Sequence[int]
) -> dict[int, Examples]:
    sets = measurement.sets[list(job_indices)]
    parts = measurement.rows.probe, measurement.rows.val
    outputs = [outputs_of(pack, stacked, part.inputs, sets) for part in parts]
    sharing: dict[int, list[int]] = defaultdict(list)  # members by the set of rows that they have
    for member, number in enumerate(sets.tolist()):
        sharing[number].append(member)
    by_job: dict[int, Examples] = {}
    for number, members in sharing.items():
        experiment = pack.experiments[job_indices[members[0]]]
        one_set = torch.tensor([number], device=sets.device)
        probe, val = (
            evaluation_of(part_outputs[members], part.targets.all(one_set)[0], pack.task)
            for part_outputs, part in zip(outputs, parts, strict=True)
        )
        rows = measured_rows(experiment.data, experiment.measure)
        made = examples_of_members(rows, (probe, val), pack.task, pack.dtype)
        by_job |= {job_indices[member]: each for member, each in zip(members, made, strict=True)}
    return by_job


def write_all(folders: Sequence[Path], examples: Sequence[Examples]) -> list[Path]:
    """Write the examples of some runs into their folders, and return the paths.

    Args:
        folders: Of the runs.
        examples: Of each run.

    Returns:
        Paths of the files.
    """
    paths = [folder / FILE for folder in folders]
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(Examples.write, examples, paths))
    return paths

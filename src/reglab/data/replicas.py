"""Resampled training parts (bootstrap, disjoint), for bias and variance of training."""

import hashlib
from dataclasses import fields, replace

import numpy as np
import torch

from reglab.core.errors import UserError
from reglab.data.dataset import DataSet, Part
from reglab.data.options import Options
from reglab.data.source import Integers, Source
from reglab.data.split import Split
from reglab.data.streams import permutation, stream
from reglab.rng import counter_rng


def replica_rows(split: Split, source: Source, options: Options) -> Integers:
    """Return the row numbers of the replica ``options.replica``.

    Without replicas all training rows.

    bootstrap: as many rows as the training part, drawn from it with replacement, each row with
    equal chance whatever its class. A row that is drawn twice counts twice, also for the
    training side of a gap, whose interval is rather too narrow for that. The draws of a replica do
    not depend on how many there are.

    disjoint: the training rows cut into ``options.replicas`` parts of equal size, by a seeded
    order; the rows that do not divide are left out, those that ``train_size`` would leave out
    first. Under a stratified split the parts hold each class in numbers that differ by at most one
    row.

    Both take rows one by one, under a grouped and a time split too. No row of another part is ever
    trained on, but groups are not kept together: replicas differ less than training parts of other
    groups or times would.

    Args:
        split: The parts, as row numbers.
        source: All rows.
        options: ``replicas``, ``replica``, ``resample``, ``split_seed``.

    Returns:
        Row numbers, int64 [rows].

    Raises:
        UserError: If a disjoint part would have no row or, stratified, none of some class.

    Source:
        Efron (1979), Bootstrap methods: another look at the jackknife.
    """
    train, replicas = split.train, options.replicas
    if replicas is None:
        return train
    if options.resample == "bootstrap":
        return train[_with_replacement(len(train), options.split_seed, options.replica)]
    if replicas > len(train):
        raise UserError(
            f"data.replicas={replicas} data.resample=disjoint cuts {len(train)} training rows into {replicas} parts: "
            f"set data.replicas to at most {len(train)}, or data.resample=bootstrap"
        )
    train = train[: len(train) // replicas * replicas]
    order = permutation(stream(options.split_seed, "disjoint"), len(train))
    if split.method == "stratified" and source.classes is not None:
        order = _by_class(order, source.classes[train], source.target_names, replicas)
    return train[np.sort(order[options.replica :: replicas])]


def resampled(data: DataSet, replicas: int, resample: str) -> list[DataSet]:
    """Return a data set with its training part resampled, once for each replica; rows one by one.

    Args:
        data: Whose inputs are in memory.
        replicas: Number of them, >= 2.
        resample: As for ``replica_rows``; disjoint parts are not stratified.

    Raises:
        UserError: If the inputs are read from disk, or a disjoint part would have no row.
    """
    rows = len(data.train)
    if data.streamed:
        raise UserError("the training part is resampled row by row, and these inputs are read from disk: load them")
    if resample == "bootstrap":
        drawn = [_with_replacement(rows, 0, replica) for replica in range(replicas)]
    elif rows < replicas:
        raise UserError(f"replicas={replicas} disjoint samples cannot be cut from {rows} training rows: lower replicas")
    else:
        order = permutation(stream(0, "disjoint"), rows // replicas * replicas)
        drawn = [np.sort(order[replica::replicas]) for replica in range(replicas)]
    return [
        replace(data, train=_taken(data.train, each), digest=_digest(data, resample, replicas, replica))
        for replica, each in enumerate(drawn)
    ]


def _taken(part: Part, rows: Integers) -> Part:
    index = torch.from_numpy(rows)
    return Part(**{field.name: getattr(part, field.name)[index] for field in fields(part)})


def _digest(data: DataSet, *resampling: object) -> str:
    return hashlib.sha256(repr((data.digest, *resampling)).encode()).hexdigest()


def _with_replacement(rows: int, seed: int, replica: int) -> Integers:
    drawn = counter_rng.bits(stream(seed, "bootstrap", replica), torch.arange(rows))
    # The sign bit goes; 63 random bits leave the chances of any two rows equal to one part in 2^63
    # / rows.
    rows_drawn: Integers = ((drawn & (2**63 - 1)) % rows).numpy()
    return rows_drawn


def _by_class(order: Integers, classes: Integers, names: tuple[str, ...], replicas: int) -> Integers:
    """Return ``order`` with the rows of a class together.

    Dealt out in turn, every part gets its share of each.
    """
    counts = np.bincount(classes, minlength=len(names))
    rare = int(counts.argmin())
    if counts[rare] < replicas:
        raise UserError(
            f"class {names[rare]!r} has {counts[rare]} training rows, too few for data.replicas={replicas} "
            f"data.resample=disjoint: some parts would have none. Lower data.replicas, or set data.resample=bootstrap"
        )
    return order[np.argsort(classes[order], kind="stable")]

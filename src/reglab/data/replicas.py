"""Resampled training parts (bootstrap, disjoint), for bias and variance of training."""

import numpy as np
import torch

from reglab.core.errors import UserError
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
        return train[_with_replacement(len(train), options)]
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


def _with_replacement(rows: int, options: Options) -> Integers:
    drawn = counter_rng.bits(stream(options.split_seed, "bootstrap", options.replica), torch.arange(rows))
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

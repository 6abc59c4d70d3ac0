"""Split rows into training, validation and test part."""

from dataclasses import dataclass

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import rows_of
from reglab.data.options import Options
from reglab.data.source import Booleans, Floats, Integers, Source
from reglab.data.streams import permutation, stream
from reglab.data.windowed import Windows


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; ``train`` in the order in which ``train_size`` takes them."""

    train: Integers
    val: Integers
    test: Integers
    method: str


def split_rows(source: Source, options: Options) -> Split:
    """Order all rows once and cut the order into parts.

    The test part is at the end, before it the validation part or the folds. Classes
    keep their proportions (stratified), groups stay whole (grouped), the future stays in the future
    (time). ``train_size`` shortens only the training part, and a smaller one is contained in a
    larger one.

    Args:
        source: All rows.
        options: Options of the split.

    Returns:
        Row numbers of the three parts, int64.

    Raises:
        UserError: Where a part or a class of a stratified part would be empty.
    """
    rows, classes = len(source.targets), source.classes
    if source.parts is not None:
        return _given_parts(source.parts, classes, options)
    method = "random" if options.split == "stratified" and classes is None else options.split
    if classes is not None:
        _check_class_sizes(classes, source.target_names)
    if source.spans is not None:
        train, val, test = _cut_spans(source.spans, options)
    else:
        train, val, test = _cut(_row_positions(method, rows, source, options), rows, options)
    if source.windowed is not None:
        _check_windows(source.windowed.windows, {"training": train, "validation": val, "test": test}, source, options)
    _check_parts(train, val, test, options)
    if method == "stratified" and classes is not None:
        _check_strata(classes, source.target_names, {"training": train, "validation": val, "test": test})
    chosen = _first_rows(np.flatnonzero(train), classes, options)
    return Split(chosen, np.flatnonzero(val), np.flatnonzero(test), method)


def _given_parts(parts: tuple[Integers, Integers, Integers], classes: Integers | None, options: Options) -> Split:
    """Return the parts as they are given, the training part shortened by ``train_size``."""
    for key in ("split", "val_size", "test_size", "folds", "fold"):
        if getattr(options, key) != getattr(Options, key):
            raise UserError(f"data.{key}={getattr(options, key)} cuts parts, and all of them are given: leave it out")
    train, val, test = parts
    return Split(_first_rows(train, classes, options), val, test, "given")


def _row_positions(method: str, rows: int, source: Source, options: Options) -> Floats:
    shuffled = permutation(stream(options.split_seed, "split"), rows)
    if method == "grouped" and source.group is not None:
        shuffled_groups = permutation(stream(options.split_seed, "groups"), int(source.group.max()) + 1)
        return block_positions(shuffled_groups[source.group])
    if method == "time" and source.time is not None:
        return block_positions(source.time)
    if method == "stratified" and source.classes is not None:
        return row_positions(stratified_order(source.classes, shuffled, offset=0.5))
    return row_positions(shuffled)


def _cut(positions: Floats, rows: int, options: Options) -> tuple[Booleans, Booleans, Booleans]:
    """Return the masks [rows] of the three parts."""
    end = rows - rows_of(options.test_size, rows)
    test = positions > end
    if options.folds is None:
        val = ~test & (positions > end - rows_of(options.val_size, rows))
        return ~test & ~val, val, test
    # Forward chaining: train on everything before the fold, never on what follows it.
    if options.split == "time":
        edges = np.linspace(0, end, options.folds + 2)[options.fold + 1 : options.fold + 3]
        train = positions <= edges[0]
    else:
        edges = np.linspace(0, end, options.folds + 1)[options.fold : options.fold + 2]
        train = ~test & ((positions <= edges[0]) | (positions > edges[1]))
    return train, (positions > edges[0]) & (positions <= edges[1]) & ~test, test


def _cut_spans(spans: Integers, options: Options) -> tuple[Booleans, Booleans, Booleans]:
    """Return the masks [rows] of the three parts of time; rows that reach over a boundary are in none."""
    times = int(spans.max()) + 1
    train, val, test = (
        part[spans[:, 0]] & part[spans[:, 1]] for part in _cut(row_positions(np.arange(times)), times, options)
    )
    return train, val, test


def _first_rows(train: Integers, classes: Integers | None, options: Options) -> Integers:
    """Return the training rows that ``train_size`` takes, from the front of one seeded order."""
    order = permutation(stream(options.split_seed, "train_size"), len(train))
    if classes is not None:
        order = stratified_order(classes[train], order, offset=0.0)
    if options.train_size is None:
        return train[order]
    count, minimum = rows_of(options.train_size, len(train)), 1
    if classes is not None:
        minimum = len(np.unique(classes[train]))
    if not minimum <= count <= len(train):
        reason = f"at least one for each of the {minimum} classes" if minimum > 1 else "at least 1"
        raise UserError(
            f"data.train_size={options.train_size:g} means {count} rows, but it must be {reason} and at most the "
            f"{len(train)} rows of the training part; null takes them all"
        )
    return train[order[:count]]


def _check_class_sizes(classes: Integers, names: tuple[str, ...]) -> None:
    counts = np.bincount(classes, minlength=len(names))
    if len(names) < 2:
        raise UserError(f"the target is constant: every row is of class {names[0]!r}. Choose another target")
    if counts.min() < 2:
        rarest = names[int(counts.argmin())]
        raise UserError(
            f"class {rarest!r} has {counts.min()} row: it cannot be both trained on and validated. Drop it, merge it "
            "with another class, or, if the target is a quantity, set data.task=regression"
        )


def _check_parts(train: Booleans, val: Booleans, test: Booleans, options: Options) -> None:
    if train.any() and val.any() and test.any():
        return
    validation = f"data.val_size={options.val_size:g}"
    if options.folds is not None:
        validation = f"data.folds={options.folds} data.fold={options.fold}"
    note = " (groups and equal times stay whole)" if options.split in ("grouped", "time") else ""
    raise UserError(
        f"{validation} data.test_size={options.test_size:g} cut {len(train)} rows into {train.sum()} for training, "
        f"{val.sum()} for validation and {test.sum()} for the test{note}: each needs some. Choose other sizes"
    )


def _check_windows(windows: Windows, parts: dict[str, Booleans], source: Source, options: Options) -> None:
    """Refuse windows of which none fits into a part of the time."""
    empty = [name for name, rows in parts.items() if not rows.any()]
    if not empty or source.spans is None:
        return
    needed, times = windows.length + max(windows.ahead), int(source.spans.max()) + 1
    raise UserError(
        f"no window lies within the {' or '.join(empty)} part: data.length={windows.length} and "
        f"data.horizon={max(windows.ahead)} need {needed} rows one after the other, and the {times} times are cut by "
        f"data.val_size={options.val_size:g} and data.test_size={options.test_size:g}. Choose a smaller data.length or "
        "data.horizon, or larger parts"
    )


def _check_strata(classes: Integers, names: tuple[str, ...], parts: dict[str, Booleans]) -> None:
    for label, name in enumerate(names):
        empty = [part for part, rows in parts.items() if label not in classes[rows]]
        if empty:
            raise UserError(
                f"class {name!r} has {np.sum(classes == label)} rows, too few for a stratified split: none would be in "
                f"the {' or '.join(empty)} part. Merge or drop the class, enlarge that part, or set data.split=random"
            )


def stratified_order(classes: Integers, shuffled: Integers, offset: float) -> Integers:
    """Return an order of the rows whose every stretch holds the classes in proportion.

    The j-th of a class's n rows (in ``shuffled`` order) gets the position ``(j + offset) / n``;
    rows are sorted by it, ties as in ``shuffled``.

    Args:
        classes: int64 [rows].
        shuffled: int64 [rows], a random order.
        offset: 1/2 keeps every stretch within a row or so of proportion; 0 puts one row of every
            class first, so that the first k rows hold all k classes.

    Returns:
        Row numbers, int64 [rows].
    """
    rank = np.empty(len(classes))
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        rank[members] = (np.arange(len(members)) + offset) / len(members)
    return shuffled[np.argsort(rank[shuffled], kind="stable")]


def row_positions(order: Integers) -> Floats:
    """Return the position of each row in ``order``, plus 0.5."""
    positions = np.empty(len(order))
    positions[order] = np.arange(len(order)) + 0.5
    return positions


def block_positions(blocks: Integers) -> Floats:
    """Return the middle of each row's block, in rows, with blocks in order of number.

    Rows of a block share one position, so that a cut cannot part them. Shapes: [rows].
    """
    sizes = np.bincount(blocks)
    return (np.cumsum(sizes) - sizes / 2)[blocks]

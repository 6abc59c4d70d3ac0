"""``Source``: raw rows of a data set, before splitting, scaling and noise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reglab.tasks import task_named

if TYPE_CHECKING:
    from reglab.data.reader import Reader
    from reglab.data.several import Input
    from reglab.data.table_roles import TypedTable
    from reglab.data.windowed import Windowed

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


def linear(inputs: Floats, coefficients: Floats) -> Floats:
    """Return ``inputs @ coefficients``, [rows], bit-identical for any number of threads."""
    products: Floats = inputs * coefficients
    return np.asarray(products.sum(axis=1))


@dataclass(frozen=True)
class Categorical:
    """One column of categories: ``codes`` [rows] number its sorted ``labels``.

    -1 where the value is missing.
    """

    name: str
    codes: Integers
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """All rows of a data set, raw.

    Args:
        numeric: [rows, columns], NaN where missing; ``numeric_names`` name the columns. Pixels may
            be uint8, which takes an eighth of the memory.
        tokens: ``numeric`` is int64, ids from 0 in an order (text, for one): neither scaled nor
            made real.
        targets: Classification and binary int64 [rows] class numbers; multilabel float64 [rows,
            labels]; regression float64 [rows] or [rows, outputs].
        shape: The shape of one example, where the model is not to see a flat row.
        homogeneous: Every input measures the same thing (pixels, points of a signal), so that they
            are standardized by one mean and one deviation; column by column, a pixel that is almost
            always 0 would be blown up.
        pad: The value of what is padding among the inputs: it stays as it is, and does not count in
            mean and deviation.
        several: The inputs that a row's values are, one behind the other; empty: it is one.
        standardize_target: Scale regression targets to mean 0 and deviation 1 over the training
            part.
        coefficients, relevant, feature_groups: See ``DataSet``; on the scale of ``numeric``.
        expected: Like ``targets``, without their noise, where a generator knows it.
        group, time: [rows] block numbers for a grouped split, and in order of time for a time
            split.
        spans: [rows, 2], the first and the last time that a row needs, numbered from 0, where rows
            are windows: under a time split those that need times of two parts are in none.
        query: [rows] numbers from 0 of the queries that the rows are documents of; the examples are then
            the queries.
        sample_weight: [rows], finite, >= 0.
        name: Where it differs from the name in the config.
        table: The typed columns of a table, for its report.
        parts: Row numbers of the training, validation and test part, where they are given; the rows
            are then not split.
        reader: Of rows on disk; ``numeric`` is then empty, [rows, 0].
        stream: Whether training reads its rows batch by batch, rather than from memory.
        workers: Processes that read them; 0: none beside the one that trains.
        images: The rows were image files.
        class_names: Of each of several targets, the names of its classes.
        columns: Of the files that ``reader`` reads: those of the inputs, and of the targets; None: they
            have none.
        windowed: How the rows were cut out of series; None: they were not.
    """

    task: str
    numeric: Floats | Integers | Bytes
    numeric_names: tuple[str, ...]
    targets: Integers | Floats
    target_names: tuple[str, ...]
    categorical: tuple[Categorical, ...] = ()
    shape: tuple[int, ...] | None = None
    homogeneous: bool = False
    tokens: bool = False
    pad: float | None = None
    several: "tuple[Input, ...]" = ()
    standardize_target: bool = False
    coefficients: Floats | None = None
    relevant: Booleans | None = None
    feature_groups: Integers | None = None
    expected: Floats | None = None
    group: Integers | None = None
    time: Integers | None = None
    spans: Integers | None = None
    query: Integers | None = None
    sample_weight: Floats | None = None
    name: str | None = None
    table: "TypedTable | None" = None
    parts: tuple[Integers, Integers, Integers] | None = None
    reader: "Reader | None" = None
    stream: bool = False
    workers: int = 0
    images: bool = False
    class_names: tuple[tuple[str, ...], ...] = ()
    columns: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    windowed: "Windowed | None" = None

    @property
    def classes(self) -> Integers | None:
        """Return the class number of each row, or None where the task has no classes."""
        return self.targets.astype(np.int64) if task_named(self.task).classes else None

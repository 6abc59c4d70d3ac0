"""Rows of queries: a query is an example, its documents are padded to the longest query."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.options import Options
from reglab.data.source import Integers, Source
from reglab.data.split import Split, split_rows
from reglab.data.table_target import TaskOrTasks, check_task
from reglab.tasks import task_named
from reglab.tasks.positions import IGNORED


@dataclass(frozen=True)
class Queries:
    """Which rows are the documents of which query.

    Args:
        documents: Row numbers, int64 ``[queries, longest]``, -1 behind the last one of a query.
    """

    documents: Integers

    def rows(self, queries: Integers) -> Integers:
        """Return the rows of the documents of some queries, int64."""
        found = self.documents[queries]
        return found[found >= 0]

    def padded(self, values: Tensor, fill: float) -> Tensor:
        """Return values of rows ``[rows, ...]`` as ``[queries, longest, ...]``, ``fill`` where there is
        no document.
        """
        documents = torch.from_numpy(self.documents)
        absent = (documents < 0).reshape(*documents.shape, *(1 for _ in values.shape[1:]))
        return values[documents.clamp(min=0)].masked_fill(absent, fill)

    def flat(self, values: Tensor) -> Tensor:
        """Return values ``[queries, longest, ...]`` in the order of the rows, ``[rows, ...]``."""
        documents = torch.from_numpy(self.documents)
        present = documents >= 0
        return values[present][documents[present].argsort()]

    def examples(self, source: Source) -> Source:
        """Return the source with a row for each query, as far as splitting and weighing need it."""
        first = self.documents[:, 0]
        kept: dict[str, Any] = {}
        for name in ("group", "time", "sample_weight"):
            values = getattr(source, name)
            if values is not None:
                self._check_same(name, values)
                kept[name] = values[first]
        return replace(source, targets=source.targets[first], query=None, **kept)

    def split(self, split: Split) -> Split:
        """Return the split of the rows that follows from that of the queries."""
        return Split(self.rows(split.train), self.rows(split.val), self.rows(split.test), split.method)

    def _check_same(self, name: str, values: Integers) -> None:
        first = values[self.documents[:, :1]]
        if ((values[self.documents] != first) & (self.documents >= 0)).any():
            raise UserError(f"data.{name} differs within a query, which is one example: give a column that does not")


def queries_of(source: Source) -> Queries | None:
    """Return the queries of a source; None where its rows are examples themselves."""
    return None if source.query is None else queries_from(source.query)


def queries_from(numbers: Integers, least: int = 0) -> Queries:
    """Return which rows are the documents of which query.

    Args:
        numbers: Of each row's query, from 0, int64 ``[rows]``.
        least: Places for documents that each query has.
    """
    sizes = np.bincount(numbers)
    order = np.argsort(numbers, kind="stable")
    documents = np.full((len(sizes), max(least, int(sizes.max(initial=0)))), -1, dtype=np.int64)
    documents[np.arange(documents.shape[1]) < sizes[:, None]] = order
    return Queries(documents)


def split_documents(source: Source, options: Options) -> Split:
    """Return the parts as row numbers: rows of a query are in the same part.

    Args:
        source: All rows.
        options: Options of the split.
    """
    queries = queries_of(source)
    if queries is None:
        return split_rows(source, options)
    return queries.split(split_rows(queries.examples(source), options))


class Documents(NamedTuple):
    """Rows that are documents of queries.

    Args:
        inputs: ``[rows, ...]``.
        targets: Relevance, ``[rows]``.
        query: Number of each row's query from 0; None where rows are examples themselves.
        task: Of them.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    query: Integers | None
    task: TaskOrTasks


def documents_of(inputs: NDArray[Any], targets: NDArray[Any], query: object, task: TaskOrTasks) -> Documents:
    """Return arrays as documents where their task is to rank, and as they are where it is not.

    Args:
        inputs: ``[rows, ...]``, or ``[queries, documents, ...]`` with targets ``[queries,
            documents]``, -100 where there is no document.
        targets: Of the rows.
        query: Of each row; None where there are two axes.
        task: ``auto`` is to rank where there is a query.

    Raises:
        UserError: For shapes and values that do not suit.
    """
    ranks = isinstance(task, str) and check_task(task) != "auto" and task_named(task).reads == "queries"
    if query is None and not ranks:
        return Documents(inputs, targets, None, task)
    if query is not None:
        return Documents(inputs, targets, _numbers_of(query, len(targets)), task_of_queries("query", query, task))
    if targets.ndim != 2 or inputs.shape[:2] != targets.shape:
        raise UserError(
            f"{task} takes inputs [queries, documents, ...] and relevance [queries, documents], -100 where there is no "
            f"document, got {inputs.shape} and {targets.shape}; or rows, with query= of each"
        )
    if wrong := task_named(str(task)).check_targets(torch.tensor(targets)):
        raise UserError(f"the targets do not suit task={task}: {wrong}")
    present = targets != IGNORED
    return Documents(inputs[present], targets[present], present.nonzero()[0].astype(np.int64), task)


def _numbers_of(query: object, rows: int) -> Integers:
    values = np.asarray(query)
    if values.shape != (rows,):
        raise UserError(f"query= has the query of each row, [{rows}], got {list(values.shape)}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def task_of_queries(key: str, query: object, task: TaskOrTasks) -> TaskOrTasks:
    """Return the task of rows that have a query, or none.

    Args:
        key: By which the queries are given, for messages.
        query: Of the rows; None where there is none.
        task: As it was given.

    Raises:
        UserError: Where one of them is missing.
    """
    ranks = isinstance(task, str) and task != "auto" and task_named(task).reads == "queries"
    if ranks and query is None:
        raise UserError(f"the task {task} ranks the rows of a query: name it, {key}=COLUMN")
    if query is not None and not ranks and task != "auto":
        raise UserError(f"{key}= is of the task ranking, and the task is {task}: leave one of them out")
    return "ranking" if query is not None and task == "auto" else task

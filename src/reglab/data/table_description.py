"""Describe a table: what was read from it, column by column, and what looks wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reglab.analysis.table_report import ColumnReport, TableReport, shorten
from reglab.data.assemble import check, read_source
from reglab.data.queries import split_documents
from reglab.data.source import Integers, Source
from reglab.data.split import Split
from reglab.data.table_column import Column, Texts, is_missing
from reglab.data.table_keys import is_text
from reglab.data.table_roles import TypedTable, pd_frame
from reglab.data.table_suspicions import in_column, over_the_split

_EXAMPLES = 3
_WITHOUT_EXAMPLES = ("group", "query", "left out")  # they may name people, and the report goes to the store


def describe_table(config: Mapping[str, Any]) -> TableReport | None:
    """Return the report of the table that the ``data`` node of a config describes; None for other
    data sets.

    It reads the file again: for once before training, not for each job of a sweep.

    Raises:
        UserError: As ``load``.
    """
    if config.get("name") != "table":
        return None
    options, source = check(config), read_source(config)
    assert source.table is not None
    return table_report(str(source.name), source.table, source, split_documents(source, options))


def table_report(name: str, typed: TypedTable, source: Source, split: Split) -> TableReport:
    """Return what was read from a table.

    Suspicions about single columns are found in the training rows alone, so that they may guide a
    choice of columns.

    Args:
        name: Of the file, without its ending.
        typed: The columns.
        source: What was made of them.
        split: Of the rows.
    """
    columns = {column.name: column for column in (*typed.inputs, *typed.targets)}
    roles = {name: key for key, name in typed.steering.items()}
    roles |= {column.name: "input" for column in typed.inputs} | {column.name: "target" for column in typed.targets}
    reports = [
        _column(typed, name, roles.get(name, "left out"), columns.get(name), source, split.train)
        for name in typed.file.columns
    ]
    parts = {"training": split.train, "validation": split.val, "test": split.test}
    return TableReport(
        name,
        source.task,
        {part: len(rows) for part, rows in parts.items()},
        tuple(reports),
        typed.file.notes,
        over_the_split(pd_frame(typed.inputs), split),
    )


def _column(
    typed: TypedTable,
    name: str,
    role: str,
    column: Column | None,
    source: Source,
    train: Integers,
) -> ColumnReport:
    import pandas as pd

    file, reading = typed.file, typed.reading
    texts = Texts(name, file, reading.missing_texts) if is_text(file, name) else None
    if column is None:
        values = texts.as_category(keep=reading.kinds.get(name) == "text") if texts else file.columns[name]
    else:
        values = column.values
    shown = texts.examples(_EXAMPLES) if texts else [str(value) for value in pd.unique(values.dropna())[:_EXAMPLES]]
    if role in _WITHOUT_EXAMPLES:
        shown = []
    return ColumnReport(
        name,
        role,
        column.kind if column else "text",
        tuple(shorten(text) for text in shown),
        int(values.nunique()),
        int(np.count_nonzero(is_missing(values))),
        column.notes if column else (),
        in_column(column, texts, source, train, role) if role != "left out" else (),
    )

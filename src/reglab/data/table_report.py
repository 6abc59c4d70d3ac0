"""``TableReport``: what was read from a table, column by column, and what looks wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reglab.core.markdown import plain
from reglab.data.assemble import check, read_source
from reglab.data.source import Integers, Source
from reglab.data.split import Split, split_rows
from reglab.data.table_column import Column, Texts, is_missing
from reglab.data.table_keys import is_text
from reglab.data.table_roles import TypedTable, pd_frame
from reglab.data.table_suspicions import in_column, over_the_split

_EXAMPLES, _WIDTH = 3, 18
_WITHOUT_EXAMPLES = ("group", "left out")  # they may name people, and the report goes to the store
_PLURAL = {"number": "numbers", "truth": "truths", "category": "categories", "date": "dates"}


@dataclass(frozen=True)
class ColumnReport:
    """One column.

    Args:
        name: In the file.
        role: ``input``, ``target``, ``group``, ``time``, ``sample_weight`` or ``left out``.
        kind: ``number``, ``truth``, ``category``, ``date``, or ``text`` where nothing is made of
            it.
        examples: Its first different values; none of groups and of columns that are left out, which
            may name people.
        distinct: How many different values it has.
        missing: In how many rows it has none.
        notes: What was made of it, one clause each.
        suspicions: What looks wrong, one clause each.
    """

    name: str
    role: str
    kind: str
    examples: tuple[str, ...]
    distinct: int
    missing: int
    notes: tuple[str, ...] = ()
    suspicions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableReport:
    """A table and its split.

    Args:
        name: Of the file, without its ending.
        task: That the target makes.
        rows: By part: ``training``, ``validation`` and ``test``.
        columns: In the order of the file.
        notes: What reading left out or decided, one sentence each.
        suspicions: About the split, one sentence each.
    """

    name: str
    task: str
    rows: Mapping[str, int]
    columns: tuple[ColumnReport, ...]
    notes: tuple[str, ...]
    suspicions: tuple[str, ...]

    def text(self, lines: int = 20) -> str:
        """Return the report in plain text: two lines where there is nothing to say, at most
        ``lines``.
        """
        remarks = [f"  {note}" for note in self.notes]
        remarks += [f"! {suspicion}" for suspicion in self.suspicions]
        remarked = [each for each in self.columns if each.suspicions] + [
            each for each in self.columns if not each.suspicions and (each.notes or each.missing)
        ]
        remarks += [_line(each) for each in remarked]
        if not remarks:
            return f"{self._summary()}\n  nothing missing, left out or suspicious"
        if len(remarks) > lines - 1:
            rest = len(remarks) - (lines - 2)
            remarks = [*remarks[: lines - 2], f"  and {rest} more remarks, in the full report"]
        return "\n".join([self._summary(), *remarks])

    def markdown(self) -> str:
        """Return the report with all columns, as markdown."""
        head = ["column", "is", "type", "examples", "different", "missing", "remarks"]
        lines = [self._summary(), "", *(f"- {plain(each)}" for each in (*self.notes, *self.suspicions)), ""]
        lines += [f"| {' | '.join(head)} |", "|---|---|---|---|---|---|---|"]
        for each in self.columns:
            remarks = "; ".join([*(f"suspicious: {clause}" for clause in each.suspicions), *each.notes])
            cells = [each.name, each.role, each.kind, "; ".join(each.examples), str(each.distinct), str(each.missing)]
            lines.append(f"| {' | '.join(plain(cell) for cell in [*cells, remarks])} |")
        return "\n".join(lines) + "\n"

    def _summary(self) -> str:
        parts = ", ".join(f"{count} {part}" for part, count in self.rows.items())
        kinds = [each.kind for each in self.columns if each.role == "input"]
        counted = ", ".join(
            f"{kinds.count(kind)} {kind if kinds.count(kind) == 1 else _PLURAL[kind]}" for kind in dict.fromkeys(kinds)
        )
        targets = ", ".join(each.name for each in self.columns if each.role == "target")
        rows = f"{sum(self.rows.values())} rows ({parts})"
        return f"table {self.name}: {rows}; inputs: {counted}; target: {targets} ({self.task})"


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
    return table_report(str(source.name), source.table, source, split_rows(source, options))


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
        tuple(_short(text) for text in shown),
        int(values.nunique()),
        int(np.count_nonzero(is_missing(values))),
        column.notes if column else (),
        in_column(column, texts, source, train, role) if role != "left out" else (),
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _line(column: ColumnReport) -> str:
    clauses = [*column.suspicions, *column.notes]
    if column.missing:
        clauses.append(f"missing in {column.missing} rows")
    mark = "!" if column.suspicions else " "
    return f"{mark} {_short(column.name)} ({column.kind}: {'; '.join(column.examples)}): {'; '.join(clauses)}"

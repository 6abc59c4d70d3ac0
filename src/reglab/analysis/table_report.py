"""``TableReport``: what was read from a table, column by column, and what looks wrong."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reglab.analysis.formatting import plural
from reglab.core.markdown import plain

FILE = "table_report.json"  # of a sweep's run: a list of reports
MARKDOWN = "table_report.md"
_WIDTH = 18
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

    @property
    def remarks(self) -> str:
        """Suspicions and notes, in one line."""
        return "; ".join([*(f"suspicious: {clause}" for clause in self.suspicions), *self.notes])


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
        remarks = [f"{'!' if suspicious else ' '} {remark}" for suspicious, remark in self.remarks()]
        if not remarks:
            return f"{self.summary()}\n  nothing missing, left out or suspicious"
        if len(remarks) > lines - 1:
            rest = len(remarks) - (lines - 2)
            remarks = [*remarks[: lines - 2], f"  and {rest} more remarks, in the full report"]
        return "\n".join([self.summary(), *remarks])

    def remarks(self) -> list[tuple[bool, str]]:
        """Return what there is to remark, a line each, and whether it looks wrong."""
        suspicious = [each for each in self.columns if each.suspicions]
        others = [each for each in self.columns if not each.suspicions and (each.notes or each.missing)]
        return [
            *((False, note) for note in self.notes),
            *((True, suspicion) for suspicion in self.suspicions),
            *((bool(each.suspicions), _line(each)) for each in (*suspicious, *others)),
        ]

    def markdown(self) -> str:
        """Return the report with all columns, as markdown."""
        head = ["column", "is", "type", "examples", "different", "missing", "remarks"]
        lines = [self.summary(), "", *(f"- {plain(each)}" for each in (*self.notes, *self.suspicions)), ""]
        lines += [f"| {' | '.join(head)} |", "|---|---|---|---|---|---|---|"]
        for each in self.columns:
            cells = [each.name, each.role, each.kind, "; ".join(each.examples), str(each.distinct), str(each.missing)]
            lines.append(f"| {' | '.join(plain(cell) for cell in [*cells, each.remarks])} |")
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Return rows, parts, inputs by type, and the target, in one line."""
        parts = ", ".join(f"{count} {part}" for part, count in self.rows.items())
        kinds = [each.kind for each in self.columns if each.role == "input"]
        counted = ", ".join(
            f"{count} {kind if count == 1 else _PLURAL.get(kind, kind)}" for kind, count in Counter(kinds).items()
        )
        targets = ", ".join(each.name for each in self.columns if each.role == "target")
        rows = f"{sum(self.rows.values())} rows ({parts})"
        return f"table {self.name}: {rows}; inputs: {counted}; target: {targets} ({self.task})"


def dump(reports: Iterable[TableReport]) -> str:
    """Return reports as JSON text, for ``load``."""
    return json.dumps([asdict(report) for report in reports], indent=1)


def load(path: Path) -> tuple[TableReport, ...]:
    """Return the reports in a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds anything else.
    """
    try:
        return tuple(_restored(each) for each in json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no reports of tables ({error!r})") from error


def _restored(report: Mapping[str, Any]) -> TableReport:
    columns = tuple(
        ColumnReport(
            str(each["name"]),
            str(each["role"]),
            str(each["kind"]),
            _texts(each["examples"]),
            int(each["distinct"]),
            int(each["missing"]),
            _texts(each["notes"]),
            _texts(each["suspicions"]),
        )
        for each in report["columns"]
    )
    rows = {str(part): int(count) for part, count in report["rows"].items()}
    notes, suspicions = _texts(report["notes"]), _texts(report["suspicions"])
    return TableReport(str(report["name"]), str(report["task"]), rows, columns, notes, suspicions)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def shorten(text: str) -> str:
    """Return a value as the report shows it: in one line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _line(column: ColumnReport) -> str:
    clauses = [*column.suspicions, *column.notes]
    if column.missing:
        clauses.append(f"missing in {plural(column.missing, 'row')}")
    return f"{shorten(column.name)} ({column.kind}: {'; '.join(column.examples)}): {'; '.join(clauses)}"

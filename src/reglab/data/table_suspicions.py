"""What looks wrong in a table: leaks of the target, identifiers, rows that stand in two parts."""

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.formatting import plural
from reglab.core.override import typed
from reglab.data.source import Floats, Integers, Source
from reglab.data.split import Split
from reglab.data.table_column import Column, Texts, merged_by_rounding

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 20_000  # of the training part that are looked at
_FEWEST = 20
_SAME = 0.9999  # a correlation from which two columns are the same


def in_column(
    column: Column | None, texts: Texts | None, source: Source, train: Integers, role: str
) -> tuple[str, ...]:
    """Return what looks wrong in a column, one clause each.

    Args:
        column: With its type; None for a key.
        texts: As it stands in the file; None where that has types.
        source: With the targets.
        train: int64 row numbers of the training part.
        role: ``input``, ``target``, ``group``, ``time`` or ``sample_weight``.
    """
    found = _texts(texts, column, role) if texts is not None and role != "time" else []
    if role == "input" and column is not None:
        rows = train[:_ROWS]
        found += _values(column, rows) + _answers(column, source, rows)
    return tuple(found)


def _texts(texts: Texts, column: Column | None, role: str) -> list[str]:
    """Return what the texts of a column show."""
    found = []
    if column is not None and column.kind == "number":
        code = texts.first(r"^\s*0\d+\s*$") if role == "input" else None
        if code is not None:
            found.append(f"looks like a code ({code!r}), read as a number")
        if role == "input" and (long := texts.first(r"^\s*\d+[eE]\+?\d+\s*$")) is not None:
            found.append(f"{long!r} is read as {float(long):g}: a code?")
        numbers = column.values.to_numpy(dtype=np.float64, na_value=np.nan)
        if role == "input" and (lost := merged_by_rounding(texts, numbers)):
            found.append(
                f"{plural(lost, 'number')} more would differ if 16 digits were not all that is kept: an identifier? "
                f"{typed('data.types', {texts.name: 'category'})} keeps them apart"
            )
        elif texts.first(r"^\s*[+-]?\d{17,}\s*$") is not None:
            found.append("whole numbers of more than 16 digits are rounded: an identifier?")
        return found
    distinct = texts.distinct
    if column is None or column.kind == "category":
        folded = Counter(" ".join(text.split()).casefold().lstrip("0") for text in distinct)
        twice = next((text for text, count in folded.items() if count > 1), None)
        if twice is not None:
            same = [text for text in distinct if " ".join(text.split()).casefold().lstrip("0") == twice]
            # A group may name people, and the report goes to the store.
            named = f"{same[0]!r} and {same[1]!r} are two values"
            found.append("two values differ in case, spaces or leading zeros only" if role == "group" else named)
        count = sum(bool(re.fullmatch(r"[+-]?\d+(\.\d+)?", text)) for text in distinct)
        if column is not None and role == "input" and 0 < count < len(distinct):
            found.append(f"{count} of {len(distinct)} different values are numbers")
    return found


def _values(column: Column, rows: Integers) -> list[str]:
    """Return whether a column is constant, mostly empty or an id, by the training rows."""
    values = column.values.iloc[rows]
    present = values.dropna()
    distinct = present.nunique()
    if distinct <= 1:
        return [
            "no value in the training part" if present.empty else f"constant in the training part ({present.iloc[0]})"
        ]
    found = []
    if len(present) < len(values) / 2:
        found.append(f"missing in {1 - len(present) / len(values):.0%} of the training part")
    if distinct == len(rows) >= _FEWEST and column.kind in ("number", "category"):
        whole = column.kind == "category" or bool((present == present.round()).all())
        if whole and (column.kind == "category" or _counts(column.values)):
            found.append("another value in every row: an identifier?")
    return found


def _counts(values: "pd.Series") -> bool:
    """Return whether numbers are nearly all of those between the least and the largest, as ids are."""
    return bool(values.max() - values.min() < 1.2 * len(values))


def _answers(column: Column, source: Source, rows: Integers) -> list[str]:
    """Return whether a column predicts the target by itself, in the training rows."""
    targets = source.targets[rows]
    if len(rows) < _FEWEST or targets.ndim > 1:
        return []
    if column.kind == "category":
        codes = np.unique(column.values.iloc[rows].astype(str).to_numpy(dtype=str), return_inverse=True)[1]
        decides = codes.max() + 1 <= len(rows) / 2 and _is_function(codes, targets)
    else:
        numbers = _numbers(column, rows)
        known = np.isfinite(numbers)
        if known.sum() < _FEWEST or np.ptp(numbers[known]) == 0:
            return []
        decides = _decides(numbers[known], targets[known], source.classes is not None)
    return ["predicts the target by itself: is it known before the target is?"] if decides else []


def _numbers(column: Column, rows: Integers) -> Floats:
    values = column.values.iloc[rows]
    if column.kind == "date":
        return np.asarray(values.to_numpy().astype("datetime64[s]").astype(np.float64))
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _is_function(codes: Integers, targets: NDArray[np.generic]) -> bool:
    """Return whether all rows of a code have one target."""
    pairs = {(int(code), float(target)) for code, target in zip(codes, targets.tolist(), strict=True)}
    return len(pairs) == int(codes.max()) + 1


def _decides(numbers: Floats, targets: NDArray[np.generic], classes: bool) -> bool:
    """Return whether thresholds on ``numbers`` part all classes, or a line through them fits all
    targets.
    """
    values = targets.astype(np.float64)
    if np.ptp(values) == 0:
        return False
    if not classes:
        return bool(abs(np.corrcoef(numbers, values)[0, 1]) > _SAME)
    order = np.lexsort((values, numbers))
    numbers, values = numbers[order], values[order]
    changes = np.flatnonzero(np.diff(values) != 0)
    # A value that stands on both sides of a threshold decides nothing.
    apart = bool((numbers[changes] != numbers[changes + 1]).all())
    return apart and bool(len(changes) == len(np.unique(values)) - 1)


def over_the_split(inputs: "pd.DataFrame", split: Split) -> tuple[str, ...]:
    """Return which rows of the validation and test part stand in the training part as well.

    Args:
        inputs: The input columns, all rows.
        split: Of the rows.
    """
    from pandas.util import hash_pandas_object

    hashes = hash_pandas_object(inputs, index=False).to_numpy()
    trained = np.unique(hashes[split.train])
    found = []
    for part, rows in (("validation", split.val), ("test", split.test)):
        copies = int(np.isin(hashes[rows], trained).sum())
        if copies:
            found.append(f"{copies} of {len(rows)} in the {part} part")
    if not found:
        return ()
    return (
        f"rows with the inputs of a training row: {', '.join(found)}; if they are copies, scores are too good (a group "
        "column and data.split=grouped keep them together)",
    )

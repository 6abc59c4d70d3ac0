"""``Column``: a typed column of a table; ``Texts``: one as it stands in the file."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from reglab.data.source import Booleans, Floats, Integers
from reglab.data.table_numbers import Spelling
from reglab.data.table_raw import RawTable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column of one type.

    Args:
        name: In the file.
        kind: ``number``, ``truth``, ``category`` or ``date``.
        values: Numbers, truth values, texts or dates without a zone, missing where there is none.
        notes: What was made of the texts, one clause each.
        form: How texts were read: the decimal sign of numbers, the format of dates; empty where it
            does not matter.
    """

    name: str
    kind: str
    values: "pd.Series"
    notes: tuple[str, ...] = ()
    form: str = ""


@dataclass(frozen=True)
class Texts:
    """A column of texts.

    Args:
        name: In the file.
        table: The column's table.
        missing: The texts that count as missing.
    """

    name: str
    table: RawTable
    missing: frozenset[str]

    @property
    def array(self) -> "pa.ChunkedArray":
        """Return all texts [rows], as they stand in the file."""
        return self.table.columns[self.name]

    @cached_property
    def _encoded(self) -> tuple[Integers, list[str]]:
        combined = self.array.combine_chunks().dictionary_encode()
        return combined.indices.to_numpy(zero_copy_only=False).astype(np.int64), combined.dictionary.to_pylist()

    @cached_property
    def distinct(self) -> list[str]:
        """Return the different texts that are not missing, in order of appearance, spaces around
        them cut off.
        """
        return list(dict.fromkeys(text.strip() for text in self._encoded[1] if text.strip() not in self.missing))

    @cached_property
    def missing_in_use(self) -> list[str]:
        """Return the texts that count as missing and do occur, without the empty one."""
        return sorted({text.strip() for text in self._encoded[1]} & self.missing - {""})

    def first(self, pattern: str) -> str | None:
        """Return the first text that matches, None if none does."""
        import pyarrow.compute as pc

        found = pc.index(pc.match_substring_regex(self.array, pattern), True).as_py()
        return None if found < 0 else str(self.array[found]).strip()

    def examples(self, most: int) -> list[str]:
        """Return the first different texts that are not missing."""
        some = list(dict.fromkeys(text.strip() for text in self.array.slice(0, 1000).to_pylist()))
        return [text for text in some if text not in self.missing][:most]

    def rows_of(self, text: str) -> Integers:
        """Return the rows that hold ``text``, spaces around it aside."""
        codes, texts = self._encoded
        wanted = [code for code, each in enumerate(texts) if each.strip() == text]
        return np.flatnonzero(np.isin(codes, wanted))

    def share_of(self, chosen: list[str]) -> float:
        """Return the share of ``chosen`` texts among the rows that are not missing."""
        codes, texts = self._encoded
        counts = np.bincount(codes, minlength=len(texts))
        stripped = [text.strip() for text in texts]
        among = set(chosen)
        present = sum(int(n) for n, text in zip(counts, stripped, strict=True) if text not in self.missing)
        return sum(int(n) for n, text in zip(counts, stripped, strict=True) if text in among) / max(present, 1)

    def at(self, text: str) -> str:
        """Return ``text`` in quotes and where it first stands, such as ``'?' (line 9)``."""
        return f"{text!r} ({self.table.place(int(self.rows_of(text)[0]))})"

    def spread(self, values: dict[str, Any], empty: Any) -> "pd.Series":
        """Return the value of each row's text, ``empty`` where it is missing."""
        import pandas as pd

        codes, texts = self._encoded
        by_code = pd.Series([values.get(text.strip(), empty) for text in texts])
        return by_code.take(codes).reset_index(drop=True)

    def as_category(self, keep: bool = False) -> "pd.Series":
        """Return the texts, missing ones as such; ``keep``: only the empty ones are missing."""
        import pandas as pd

        codes, texts = self._encoded
        missing = frozenset({""}) if keep else self.missing
        labels = [text for text in texts if text not in missing]
        number = {text: code for code, text in enumerate(labels)}
        renumbered = np.array([number.get(text, -1) for text in texts], dtype=np.int64)
        return pd.Series(pd.Categorical.from_codes(renumbered[codes], pd.Index(labels)))


def comma_spelling(texts: Texts) -> Spelling | None:
    """Return how a column of digits with at most one comma is written, None for any other column.

    The same as ``spelling_of`` finds, without a look at each text in Python.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pc.utf8_trim_whitespace(texts.array)
    if not pc.any(pc.match_substring(array, ",")).as_py():
        return None
    fits = pc.match_substring_regex(array, r"^[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?$")
    if not pc.all(pc.or_(fits, pc.is_in(array, value_set=pa.array(sorted(texts.missing))))).as_py():
        return None
    either = texts.first(r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$") or ""
    decimal = r"\d*,\d{0,2}|\d*,\d{4,}|0\d*,\d{3}|\d{4,},\d{3}|,\d{3}|\d*,\d*[eE][+-]?\d+"
    comma = texts.first(rf"^\s*[+-]?({decimal})\s*$") or ""
    return Spelling(comma=comma, either=either, commas_only=True)


def comma_numbers(texts: Texts) -> Floats:
    """Return a column of ``comma_spelling`` as float64 by its decimal commas, NaN where missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pc.utf8_trim_whitespace(texts.array)
    absent = pc.is_in(array, value_set=pa.array(sorted(texts.missing)))
    numbers = pc.if_else(absent, pa.scalar(None, pa.string()), pc.replace_substring(array, ",", "."))
    return np.asarray(pc.cast(numbers, pa.float64()).to_numpy())


def fast_numbers(texts: Texts, custom: bool) -> Floats | None:
    """Return a column of plain numbers (12, -0.5, 1e-3) as float64, NaN where missing; None if it
    is none.

    Args:
        texts: The column.
        custom: Whether missing texts may be numbers themselves, such as -999.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def cast(array: "pa.ChunkedArray") -> Floats | None:
        try:
            return np.asarray(pc.cast(array, pa.float64()).to_numpy())
        except pa.ArrowInvalid:
            return None

    numbers = None if custom else cast(texts.array)
    if numbers is None:
        trimmed = pc.utf8_trim_whitespace(texts.array)
        absent = pc.is_in(trimmed, value_set=pa.array(sorted(texts.missing)))
        trimmed = pc.if_else(absent, pa.scalar(None, pa.string()), trimmed)
        numbers, gone = cast(trimmed), absent.to_numpy()
    elif not np.isnan(numbers).any():
        return numbers
    else:
        gone = pc.is_in(texts.array, value_set=pa.array(sorted(texts.missing))).to_numpy()
    return None if numbers is None or (np.isnan(numbers) & ~gone).any() else numbers


def integers(texts: Texts) -> Integers | None:
    """Return a column of whole numbers without a missing one as int64, None if it is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pc.any(pc.is_in(texts.array, value_set=pa.array(sorted(texts.missing)))).as_py():
            return None
        return np.asarray(pc.cast(texts.array, pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        return None


def merged_by_rounding(texts: Texts, numbers: Floats) -> int:
    """Return how many different whole numbers from 2^53 on are one with another as float64.

    Args:
        texts: The column.
        numbers: float64 [rows], of the texts; NaN where missing.
    """
    beyond = numbers[np.abs(numbers) >= 2**53]
    if not beyond.size:
        return 0
    whole = {text for text in texts.distinct if re.fullmatch(r"[+-]?\d{16,}", text) and abs(int(text)) >= 2**53}
    return len({int(text) for text in whole}) - len({float(text) for text in whole})


def is_missing(values: "pd.Series") -> Booleans:
    """Return which rows [rows] have no value."""
    return np.asarray(values.isna().to_numpy(), dtype=bool)

"""The type of each column of a table, decided on all of its texts; what is open is asked."""

import re
from collections.abc import Collection, Mapping

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.source import Floats
from reglab.data.table_column import (
    Column,
    Texts,
    comma_numbers,
    comma_spelling,
    fast_numbers,
    integers,
    merged_by_rounding,
)
from reglab.data.table_dates import ISO, date_formats, first_sentence, first_wrong, is_date, read_dates
from reglab.data.table_numbers import Spelling, is_scaled, spelling_of, value_of
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_typed import typed_column

TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
# What people and programs write where a number is missing.
_MARKS = frozenset(
    (
        *("?", "-", "--", "---", ".", "..", "*", "\\N", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!"),
        *("missing", "unknown", "undefined", "n.a.", "n/a", "na", "nan", "nat", "none", "nil", "null", "(null)"),
    )
)
_MANY_NUMBERS, _MOSTLY = 10, 0.9
_LARGEST = float(np.finfo(np.float32).max)


def type_inputs(
    table: RawTable, names: list[str], categorical: list[str], reading: Reading, whole: Collection[str] = ()
) -> dict[str, Column]:
    """Return the columns ``names`` by name, each of one type.

    Args:
        table: The file.
        names: Of columns.
        categorical: Names of columns of numbers that are categories.
        reading: Options.
        whole: Names of columns that are int64 where they can be, as the categorical ones.

    Raises:
        UserError: For a column that can be read in two ways, and for numbers that cannot be
            trained on.
    """
    columns: dict[str, Column | Texts] = {}
    for name in names:
        if not hasattr(table.columns[name], "chunks"):
            columns[name] = typed_column(table, name, reading.kinds.get(name))
            continue
        texts = Texts(name, table, reading.missing_texts)
        columns[name] = _plain_numbers(texts, name in categorical, name in whole, reading) or texts
        if columns[name] is texts and _is_category(texts, categorical, reading):
            columns[name] = _category(texts)
    spellings = {
        name: comma_spelling(column) or spelling_of(column.distinct)
        for name, column in columns.items()
        if isinstance(column, Texts) and reading.kinds.get(name) in (None, "number")
    }
    shown = _decimal_of_file(spellings, reading)
    if shown == ",":
        _check_dots(table, [column for column in columns.values() if isinstance(column, Column)], reading)
    return {
        name: column if isinstance(column, Column) else _type(column, spellings.get(name), shown, reading)
        for name, column in columns.items()
    }


def _plain_numbers(texts: Texts, categorical: bool, keep_whole: bool, reading: Reading) -> Column | None:
    """Return a column whose texts are all plain numbers, None for any other."""
    import pandas as pd
    import pyarrow.compute as pc

    if reading.kinds.get(texts.name) not in (None, "number"):
        return None
    if reading.decimal_sign == "," and pc.any(pc.match_substring(texts.array, ".")).as_py():
        return None
    if categorical and has_codes(texts):
        return Column(texts.name, "category", texts.as_category())
    numbers = fast_numbers(texts, reading.missing is not None)
    if numbers is None:
        return None
    check_size(texts, numbers, reading)
    whole = integers(texts) if categorical or keep_whole else None
    if whole is None and keep_whole and merged_by_rounding(texts, numbers):
        return Column(texts.name, "category", texts.as_category())  # classes, told apart by all of their digits
    return Column(texts.name, "number", pd.Series(numbers if whole is None else whole))


def _is_category(texts: Texts, categorical: list[str], reading: Reading) -> bool:
    """Return whether ``categorical`` decides about texts that are no plain numbers."""
    chosen = texts.name in categorical and texts.name not in reading.kinds
    return chosen and not set(texts.distinct) <= set(TRUTH)


def has_codes(texts: Texts) -> bool:
    """Return whether texts look like codes: digits that begin with 0, which a number would lose."""
    return texts.first(r"^\s*0\d+\s*$") is not None


def check_size(texts: Texts, numbers: Floats, reading: Reading) -> None:
    """Check that all numbers are finite and fit into float32, in which models compute.

    Raises:
        UserError: Naming the first that does not, its column and line.
    """
    if numbers.size and numbers.min() >= -_LARGEST and numbers.max() <= _LARGEST:
        return  # without a copy; NaN fails it
    bad = np.flatnonzero(np.abs(numbers) > _LARGEST)
    if not bad.size:
        return
    text = str(texts.array[int(bad[0])]).strip()
    size = "is infinite" if np.isinf(numbers[bad[0]]) and "inf" in text.lower() else "is beyond float32"
    raise UserError(
        f"the column {texts.name!r} holds {text!r} ({texts.table.place(int(bad[0]))}, {bad.size} of {len(numbers)} "
        f"rows), which {size}: correct it, or, if it means missing, "
        f"{reading.also_missing(text, texts.missing_in_use)}; {typed('data.drop', [texts.name])} leaves the column out"
    )


def _decimal_of_file(spellings: Mapping[str, Spelling], reading: Reading) -> str | None:
    """Return the decimal sign that the file's numbers show, None where none or both do."""
    if reading.decimal_sign:
        return reading.decimal_sign
    shown = {each.decimal for each in spellings.values() if not each.strays and each.decimal}
    return shown.pop() if len(shown) == 1 else None


def _check_dots(table: RawTable, columns: list[Column], reading: Reading) -> None:
    """Ask for the meaning of 1.200 where other columns have decimal commas."""
    if reading.decimal_sign:
        return
    for column in columns:
        if column.kind == "number" and hasattr(table.columns[column.name], "chunks"):
            texts = Texts(column.name, table, reading.missing_texts)
            spelling = spelling_of(texts.distinct)
            if spelling.either and not spelling.dot:
                raise UserError(_which_decimal(texts, spelling.either))


def _type(texts: Texts, spelling: Spelling | None, shown: str | None, reading: Reading) -> Column:
    """Return a column whose texts are not all plain numbers."""
    wanted = reading.kinds.get(texts.name)
    if spelling is not None and spelling.commas_only:
        return as_numbers(texts, spelling, shown, reading)
    if wanted in ("category", "text"):
        return Column(texts.name, "category", texts.as_category(keep=wanted == "text"))
    if wanted == "date" or "%" in str(wanted):
        return as_dates(texts, wanted, f"the column {texts.name!r}", reading)
    if wanted is None and set(texts.distinct) <= set(TRUTH):
        return _truth(texts)
    dated = [text for text in texts.distinct if is_date(text)] if wanted is None else []
    if dated and _are(texts, dated, "dates", reading):
        return as_dates(texts, None, f"the column {texts.name!r}", reading)
    assert spelling is not None
    if spelling.strays:
        strays = set(spelling.strays)
        numbers = [text for text in texts.distinct if text not in strays]
        _ask_scale(texts, spelling, reading)
        if wanted is None and not (numbers and _are(texts, numbers, "numbers", reading)):
            return _category(texts)
        raise UserError(
            f"the column {texts.name!r} is to be numbers ({typed('data.types', {texts.name: 'number'})}), but holds "
            f"{texts.at(spelling.strays[0])}: correct it, or, if it means missing, "
            f"{reading.also_missing(spelling.strays[0], texts.missing_in_use)}"
        )
    return as_numbers(texts, spelling, shown, reading)


def _ask_scale(texts: Texts, spelling: Spelling, reading: Reading) -> None:
    """Ask for the meaning of ``$1.2M``, of which a category could be made in silence."""
    if texts.name not in reading.kinds and len(spelling.strays) > 1 and all(map(is_scaled, spelling.strays)):
        raise UserError(
            f"the column {texts.name!r} holds {texts.at(spelling.strays[0])}: if that is a number in thousands, "
            f"millions or billions, write its zeros out; else {typed('data.types', {texts.name: 'category'})}"
        )


def _category(texts: Texts) -> Column:
    notes = [f"{text!r} counts as missing" for text in texts.missing_in_use]
    return Column(texts.name, "category", texts.as_category(), tuple(notes))


def _truth(texts: Texts) -> Column:
    import pandas as pd

    values = texts.spread(TRUTH, None)
    if values.isna().any():  # three values, as pandas reads it
        return Column(texts.name, "category", values.map({True: "True", False: "False"}, na_action="ignore"))
    return Column(texts.name, "truth", pd.Series(values, dtype=bool))


def _are(texts: Texts, some: list[str], what: str, reading: Reading) -> bool:
    """Return whether all texts are ``what``, which ``some`` are; ask where the others look like an
    exception.
    """
    among = set(some)
    others = [text for text in texts.distinct if text not in among]
    if not others:
        return True
    share = texts.share_of(some)
    marked = len(some) > 1 and all(text in _MARKS or text.lower() in _MARKS for text in others)
    mostly = share >= _MOSTLY and len(some) > max(len(others), _MANY_NUMBERS)
    decimals = share > 0.5 and len(others) <= 3 and any(re.fullmatch(r"[+-]?\d*[.,]\d+", text) for text in some)
    if not (marked or mostly or decimals):
        return False
    rows = sum(len(texts.rows_of(text)) for text in others[:3])
    last = len(others) == 1 and texts.rows_of(others[0]).tolist() == [texts.table.rows - 1]
    total = " It is the last row: a total, or a remark, is no row of the table, and has to be deleted." if last else ""
    listed = ", ".join(texts.at(text) for text in others[:3]) + (", ..." if len(others) > 3 else "")
    raise UserError(
        f"the column {texts.name!r} holds {what} and {listed}, in {rows} of {texts.table.rows} rows: does that mean "
        f"missing ({reading.also_missing(others[0], [*texts.missing_in_use, *others[1:3]])}), or are all its values "
        f"categories ({typed('data.types', {texts.name: 'category'})})?{total}"
    )


def as_numbers(texts: Texts, spelling: Spelling, shown: str | None, reading: Reading) -> Column:
    """Return a column of numbers with units, thousands or decimal commas.

    Args:
        texts: The column.
        spelling: Of its texts, none of them a stray.
        shown: The decimal sign of the file, where it shows one.
        reading: Options.

    Raises:
        UserError: Where a text is two different numbers.
    """
    import pandas as pd

    _check_units(texts, spelling)
    decimal = reading.decimal_sign or _decimal(texts, spelling, shown, texts.name in reading.kinds)
    if spelling.commas_only and decimal == ",":
        numbers = comma_numbers(texts)
        check_size(texts, numbers, reading)
        return Column(texts.name, "number", pd.Series(numbers), _samples(spelling, decimal), decimal)
    values = {text: value_of(text, decimal) for text in texts.distinct}
    if wrong := next((text for text, value in values.items() if value is None), None):
        raise UserError(
            f"the column {texts.name!r} holds {texts.at(wrong)}, which is no number with a decimal "
            f"{'comma' if decimal == ',' else 'dot'}: correct it, or set another data.decimal"
        )
    column = texts.spread(values, np.nan).astype(np.float64)
    check_size(texts, np.asarray(column.to_numpy(), dtype=np.float64), reading)
    return Column(texts.name, "number", column, _samples(spelling, decimal), decimal)


def _samples(spelling: Spelling, decimal: str) -> tuple[str, ...]:
    """Return notes about how numbers were read."""
    texts = dict.fromkeys([*spelling.units.values(), spelling.comma, spelling.either])
    return tuple(f"{text!r} is read as {value_of(text, decimal):.12g}" for text in texts if text)[-2:]


def _check_units(texts: Texts, spelling: Spelling) -> None:
    units = {unit: text for unit, text in spelling.units.items() if unit or "%" in spelling.units}
    if len(units) > 1:
        listed = " and ".join(texts.at(text) for text in list(units.values())[:2])
        raise UserError(
            f"the column {texts.name!r} holds numbers in different units: {listed}. Write all of them in one, or leave "
            f"the column out: {typed('data.drop', [texts.name])}"
        )


def _decimal(texts: Texts, spelling: Spelling, shown: str | None, sure: bool) -> str:
    """Return the decimal sign of a column by what it shows itself, then by the rest of the file."""
    if spelling.dot and spelling.comma:
        raise UserError(
            f"the column {texts.name!r} holds {texts.at(spelling.dot)} and {texts.at(spelling.comma)}: one has a "
            "decimal dot, the other a decimal comma. Write all of them with a dot"
        )
    if spelling.decimal == "," and "." not in spelling.comma and texts.table.separator in ("", ",") and not sure:
        raise UserError(
            f"the column {texts.name!r} holds {texts.at(spelling.comma)}: the number {value_of(spelling.comma, ','):g} "
            f"or a text? Set data.decimal=comma, or {typed('data.types', {texts.name: 'category'})}"
        )
    if spelling.decimal:
        return spelling.decimal
    if not spelling.either or {"$", "£"} & set(spelling.units):
        return "."
    if shown is None or ("." in spelling.either and shown == ","):
        raise UserError(_which_decimal(texts, spelling.either))
    return shown


def _which_decimal(texts: Texts, text: str) -> str:
    dot, comma = value_of(text, "."), value_of(text, ",")
    return (
        f"the column {texts.name!r} holds {texts.at(text)}, which is {dot:.12g} or {comma:.12g}: set data.decimal=dot "
        f"({dot:.12g}) or data.decimal=comma ({comma:.12g})"
    )


def as_dates(texts: Texts, wanted: str | None, what: str, reading: Reading) -> Column:
    """Return a column of dates.

    Args:
        texts: The column.
        wanted: ``date``, or the format; None where the texts decided that they are dates.
        what: The column, for messages.
        reading: Options.

    Raises:
        UserError: For a text that is no date, and where day and month are open.
    """
    formats = [str(wanted)] if "%" in str(wanted) else date_formats(texts.distinct)
    if len(formats) > 1:
        ways = " or ".join(typed("data.types", {texts.name: form}) for form in formats)
        raise UserError(f"{what} holds {texts.at(texts.distinct[0])}, where day and month are open: set {ways}")
    try:
        dates = read_dates(texts.distinct, formats[0] if formats else ISO)
    except (ValueError, TypeError, OverflowError) as error:
        if formats and (wrong := first_wrong(texts.distinct, formats[0])) is not None:
            raise UserError(
                f"{what} holds {texts.at(wrong)}, which is no date: correct it, or, if it means missing, "
                f"{reading.also_missing(wrong, texts.missing_in_use)}"
            ) from error
        raise UserError(
            f"{what} cannot be read as dates ({first_sentence(error)}): write them like "
            f"2024-12-31, or set their format, as in {typed('data.types', {texts.name: '%d/%m/%Y'})}; "
            f"{typed('data.types', {texts.name: 'category'})} takes them as categories"
        ) from error
    import pandas as pd

    values = texts.spread(dict(zip(texts.distinct, dates, strict=True)), pd.NaT)
    return Column(texts.name, "date", pd.to_datetime(values), form=formats[0] if formats else ISO)

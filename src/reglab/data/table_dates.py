"""Dates of a table: recognised on whole columns, read in one way, made numeric features."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reglab.data.source import Floats

if TYPE_CHECKING:
    import pandas as pd

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})?)?")
_DAY_FIRST, _MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/\d{4}")
_DOTTED = re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")
ISO = "ISO8601"


def is_date(text: str) -> bool:
    """Return whether ``text`` looks like a date: 2024-12-31, with a time or without, 31.12.2024,
    12/31/2024.
    """
    return any(form.fullmatch(text) for form in (_ISO, _SLASHED, _DOTTED))


def date_formats(texts: Sequence[str]) -> list[str]:
    """Return the formats in which all ``texts`` are dates: none, one, or two where day and month
    are open.
    """
    if all(map(_ISO.fullmatch, texts)):
        return [ISO]
    if all(map(_DOTTED.fullmatch, texts)):
        return ["%d.%m.%Y"]
    parts = [_SLASHED.fullmatch(text) for text in texts]
    numbers = [(int(part[1]), int(part[2])) for part in parts if part]
    if len(numbers) < len(texts):
        return []
    day_first = all(day <= 31 and month <= 12 for day, month in numbers)
    month_first = all(month <= 12 and day <= 31 for month, day in numbers)
    return [form for form, fits in ((_DAY_FIRST, day_first), (_MONTH_FIRST, month_first)) if fits]


def read_dates(texts: Sequence[str], form: str) -> "pd.Series":
    """Return ``texts`` as dates and times; those with an offset from UTC in UTC.

    Raises:
        ValueError: For a text that is no date in this format, and where only some have an offset.
    """
    import pandas as pd

    if form != ISO:
        return pd.Series(pd.to_datetime(list(texts), format=form, utc="%z" in form)).dt.tz_localize(None)
    with_offset = [bool((match := _ISO.fullmatch(text)) and match[1]) for text in texts]
    if any(with_offset) and not all(with_offset):
        bare = texts[with_offset.index(False)]
        raise ValueError(f"{texts[with_offset.index(True)]!r} has an offset from UTC and {bare!r} has none")
    dates = pd.to_datetime(list(texts), format=ISO, utc=any(with_offset))
    return pd.Series(dates).dt.tz_localize(None)


def first_sentence(error: Exception) -> str:
    """Return what is wrong, without the advice of pandas, whose arguments no option sets."""
    return str(error).splitlines()[0].partition(". You might")[0]


def first_wrong(texts: Sequence[str], form: str) -> str | None:
    """Return the first text that is no date in this format by itself, None if all are."""
    for text in texts:
        try:
            read_dates([text], form)
        except (ValueError, TypeError, OverflowError):
            return text
    return None


def date_features(name: str, dates: "pd.Series") -> dict[str, Floats]:
    """Return the features of a column of dates by name, [rows] each, NaN where the date is missing.

    Year, month, day, weekday (Monday is 0), hour where any row has a time of day, and seconds since
    1970. They depend on their own row alone: nothing is fitted.

    Args:
        name: Of the column.
        dates: Dates and times without a zone.
    """
    parts = {
        "year": dates.dt.year,
        "month": dates.dt.month,
        "day": dates.dt.day,
        "weekday": dates.dt.day_of_week,
        "hour": dates.dt.hour + dates.dt.minute / 60 + dates.dt.second / 3600,
    }
    if not (parts["hour"].fillna(0) != 0).any():
        del parts["hour"]
    seconds = (dates - np.datetime64("1970-01-01")).dt.total_seconds()
    features = parts | {"seconds": seconds}
    return {f"{name}_{part}": values.to_numpy(dtype=np.float64, na_value=np.nan) for part, values in features.items()}

"""How windows are cut out of series: what later rows have to be cut by, too."""

from dataclasses import dataclass

from reglab.data.table_column import Column
from reglab.data.table_options import Reading


@dataclass(frozen=True)
class Windows:
    """Which rows of a series a window has.

    Args:
        length: Rows of a window.
        step: Rows from the first of a window to that of the next.
        ahead: How many rows after a window's last one its targets are.
        series: The column that tells series apart; None: there is one.
        time: The column of the times; None: rows are in order of time.
    """

    length: int
    step: int
    ahead: tuple[int, ...]
    series: str | None
    time: str | None


@dataclass(frozen=True)
class Windowed:
    """Windows of a file.

    Args:
        windows: How they are cut.
        names: Of the input columns.
        target: The column that is predicted.
        columns: Of a table, as they were read: the inputs, and behind them the target; of an array
            none.
        reading: By which a table was read.
    """

    windows: Windows
    names: tuple[str, ...]
    target: str
    columns: tuple[Column, ...]
    reading: Reading

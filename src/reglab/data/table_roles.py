"""Which column of a table is what: target, input, group, time, weight, or left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reglab.core import override
from reglab.core.errors import UserError
from reglab.data.table_column import Column
from reglab.data.table_file import check_columns, list_columns, read_table
from reglab.data.table_keys import is_code, read_target_column
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_types import type_inputs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TypedTable:
    """The columns of a file, by what they are for.

    Args:
        file: As it was read.
        targets, inputs: By name, in the order of the file.
        weight: Of the rows, or None.
        steering: The columns of group, time and weight that are named, by option.
        dropped: Columns that are left out.
        categorical: Names of inputs that are categories by the user's word.
        reading: By which the texts were read.
    """

    file: RawTable
    targets: tuple[Column, ...]
    inputs: tuple[Column, ...]
    weight: Column | None
    steering: Mapping[str, str]
    dropped: tuple[str, ...]
    categorical: tuple[str, ...]
    reading: Reading


def read_typed(
    path: str | None,
    reading: Reading,
    task: str | Mapping[str, str],
    target: object,
    drop: object,
    categorical: object,
    steering: Mapping[str, str | None],
    event: str | None = None,
) -> TypedTable:
    """Return the columns of a file, each of one type and with its role.

    The types of all columns are decided together: the decimal sign of one tells that of another.

    Args:
        path: Of the file.
        reading: Options.
        task: As in ``read_target``.
        target, drop, categorical: One name, or several.
        steering: The columns of ``group``, ``time`` and ``sample_weight``, None where there is
            none.
        event: The target column that ``data.event`` names.

    Raises:
        UserError: For a file, column or value that cannot be used.
    """
    file = read_table(path, reading)
    columns = list(file.columns)
    check_columns(columns, "types", reading.kinds)
    try:
        keys = {str(event): "event"}
        targets = [check_columns(columns, keys.get(name, "target"), [name])[0] for name in _names(target)]
    except UserError as error:  # such as the sheets that are not read
        raise UserError(". ".join([str(error), *file.notes])) from error
    if not targets:
        null = next((name for name in columns if name.lower() == "null"), None)
        hint = f". The column {null}: {override.typed('data.target', null)}" if null else ""
        raise UserError(f"data.target is not set: name the column to predict{hint}. {list_columns(columns)}")
    steers = {key: check_columns(columns, key, [name])[0] for key, name in steering.items() if name is not None}
    taken = {**dict.fromkeys(targets, "target"), **{name: key for key, name in steers.items()}}
    dropped = [*check_columns(columns, "drop", _names(drop)), *_dropped_by_type(reading, taken)]
    unused = {*taken, *dropped}
    categories = check_columns(columns, "categorical", _names(categorical))
    used = [name for name in columns if name not in unused]
    if not used:
        raise UserError(f"no input column is left beside {', '.join(sorted(unused))}. {list_columns(columns)}")
    weight = steers.get("sample_weight")
    numbers = [name for name in targets if not is_code(file, name, task, reading)]
    together = dict.fromkeys([*used, *numbers, *([weight] if weight else [])])
    typed = type_inputs(file, list(together), [name for name in categories if name in used], reading, whole=targets)
    return TypedTable(
        file,
        tuple(read_target_column(file, name, typed.get(name), reading) for name in targets),
        tuple(typed[name] for name in used),
        typed[weight] if weight else None,
        steers,
        tuple(dict.fromkeys(name for name in dropped if name not in targets)),
        tuple(categories),
        reading,
    )


def _dropped_by_type(reading: Reading, taken: Mapping[str, str]) -> list[str]:
    """Return the columns that ``data.types`` leaves out, none of which another option may name."""
    names = [name for name, kind in reading.kinds.items() if kind == "drop"]
    for name in names:
        if name in taken:
            raise UserError(f"data.types drops {name!r}, which data.{taken[name]} names: set only one of them")
    return names


def pd_frame(columns: Iterable[Column]) -> "pd.DataFrame":
    """Return columns as a frame, without a copy."""
    import pandas as pd

    return pd.DataFrame({column.name: column.values for column in columns}, copy=False)


def _names(value: object) -> list[str]:
    """Return the names that an option gives; Hydra makes 2 of the name of a column called 2."""
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]

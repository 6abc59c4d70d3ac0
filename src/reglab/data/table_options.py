"""Options that decide how a table is read: separator, decimal, missing, encoding, header, types."""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reglab.core.errors import UserError, nearest
from reglab.core.override import typed
from reglab.data.checks import choice, flag

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
DECIMALS = {"dot": ".", "comma": ","}
TYPES = ("number", "category", "date", "text", "drop")
# What pandas.read_csv takes for missing, so that tables read before mean the same.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)


@dataclass(frozen=True)
class Reading:
    """How the texts of a table are read; None: by what the file shows, a question where it is open.

    Args:
        separator: Between fields: a character, or one of ``SEPARATORS``.
        decimal: The decimal sign of numbers: ``dot`` or ``comma``.
        missing: The texts that mean "no value"; an empty field always does. None: ``MISSING``.
        encoding: Of the text; None: UTF-8, and UTF-16 where the file says so by its first bytes.
        header: Whether the first line holds the names of the columns; None: yes.
        sheet: Of an Excel file; None: the first that is not hidden and holds anything.
        types: By column: one of ``TYPES``, or the format of its dates, such as ``%d/%m/%Y``.

    Raises:
        UserError: For a value that is none of these.
    """

    separator: str | None = None
    decimal: str | None = None
    missing: str | Sequence[object] | None = None
    encoding: str | None = None
    header: bool | None = None
    sheet: str | None = None
    types: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and len(str(self.separator)) != 1 and self.separator not in SEPARATORS:
            raise UserError(
                f"data.separator={self.separator!r} must be one character or one of {', '.join(SEPARATORS)}"
            )
        if self.decimal is not None and self.decimal not in DECIMALS.values():
            choice("decimal", self.decimal, tuple(DECIMALS))
        if self.header is not None:
            flag("header", self.header)
        if self.encoding is not None:
            _check_encoding(str(self.encoding))
        if not isinstance(self.types or {}, Mapping):
            raise UserError(f"data.types={self.types!r} must name columns: 'data.types={{COLUMN:number,...}}'")
        for column, kind in self.kinds.items():
            if "%" not in kind:
                choice(f"types.{column}", kind, TYPES)

    @property
    def delimiter(self) -> str | None:
        """Return the separator as a character, or None where the file decides."""
        return None if self.separator is None else SEPARATORS.get(self.separator, self.separator)

    @property
    def decimal_sign(self) -> str | None:
        """Return ``.`` or ``,``, or None where the columns decide."""
        return None if self.decimal is None else DECIMALS.get(self.decimal, self.decimal)

    @property
    def missing_texts(self) -> frozenset[str]:
        """Return the texts that count as missing, the empty one always among them."""
        if self.missing is None:
            return frozenset(MISSING)
        given = [self.missing] if isinstance(self.missing, str | int | float) else self.missing
        return frozenset({"", *map(_written, given)})

    @property
    def kinds(self) -> dict[str, str]:
        """Return the types by the name of their column."""
        return {str(column): str(kind) for column, kind in (self.types or {}).items()}

    def also_missing(self, text: str, others: Iterable[str] = ()) -> str:
        """Return the setting by which ``text`` counts as missing, beside those of ``others`` that
        do now.

        Args:
            text: As it stands in the file.
            others: Texts of the same file.
        """
        kept = sorted((self.missing_texts - {""}) & set(others))
        return typed("data.missing", [*kept, text])


def _written(value: object) -> str:
    """Return the text that a user wrote, where Hydra made something else of it."""
    if value is None:
        return "null"
    return str(value)


def _check_encoding(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError as error:
        common = ("utf-8", "utf-16", "cp1252", "latin-1", "cp1250", "cp1251", "shift_jis", "gb18030")
        raise UserError(f"data.encoding={name} is not known: {nearest(name, common)}") from error

"""Numbers as people write them: decimal comma, thousands separators, percent, currency."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_CURRENCIES = "$€£¥"
_SPACES = " '\u2019\u00a0\u202f\u2009"  # between thousands: apostrophes, and spaces that do not break a line
_PLAIN = re.compile(r"(\d+)(?:[eE][+-]?\d+)?")
_DECIMAL = {
    ".": re.compile(r"(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?"),
    ",": re.compile(r"(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?"),
}
_GROUPED = {
    sign: re.compile(rf"[1-9]\d{{0,2}}(?:[{re.escape(other)}]\d{{3}})+(?:{re.escape(sign)}\d+)?")
    for sign, other in ((".", ","), (",", "."))
}
_INDIAN = re.compile(r"[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?")  # lakh and crore: 1,50,000
_SCALED = re.compile(rf"[+-]?[{_CURRENCIES}]?\s*\d+(?:[.,]\d+)?\s*(?:k|K|m|M|mn|Mn|Mio|b|B|bn|Bn|Mrd|T)")
_SPACED = re.compile(rf"[1-9]\d{{0,2}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?")


@dataclass
class Spelling:
    """How the numbers of a column are written.

    Args:
        dot, comma: A text that shows a decimal dot, or a decimal comma, and nothing else; "": none.
        either: A text such as ``1,200`` or ``1.200``: thousands by one sign, decimals by the other.
        plain: Texts without any sign that is in question.
        strays: Texts that are no numbers.
        units: A text with each unit, by unit; "" for texts without.
        commas_only: Digits and at most one comma are all that the texts have.
    """

    dot: str = ""
    comma: str = ""
    either: str = ""
    plain: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    commas_only: bool = False

    @property
    def decimal(self) -> str | None:
        """Return the decimal sign that the column shows by itself, None where it shows none or
        both.
        """
        if bool(self.dot) == bool(self.comma):
            return None
        return "." if self.dot else ","


def spelling_of(texts: Iterable[str]) -> Spelling:
    """Return how the numbers among the distinct ``texts`` of a column are written."""
    found = Spelling()
    for text in texts:
        digits, unit = _bare(text)
        shows = _signs(digits)
        if shows is None:
            found.strays.append(text)
            continue
        found.units.setdefault(unit, text)
        if shows == "":
            found.plain.append(text)
        elif shows == ".,":
            found.either = found.either or text
        elif shows == ".":
            found.dot = found.dot or text
        else:
            found.comma = found.comma or text
    return found


def _bare(text: str) -> tuple[str, str]:
    """Return the digits of a number and its unit: a currency sign, a percent sign, or nothing."""
    bare = _without_parentheses(text.strip().replace("\u2212", "-"))
    bare = f"-{bare[:-1]}" if _trails(bare) else bare
    unit = next((sign for sign in (*_CURRENCIES, "%") if sign in bare), "")
    if unit:
        signs = re.fullmatch(rf"([+-]?)\s*{re.escape(unit)}\s*([+-]?.*)|([+-]?.*?)\s*{re.escape(unit)}", bare)
        if signs is None:
            return "", unit
        bare = (signs[1] or "") + signs[2] if signs[2] is not None else signs[3]
    return bare.removeprefix("+").removeprefix("-"), unit


def _without_parentheses(text: str) -> str:
    """Return ``($5)``, which accountants write for -5, as ``$5``; ``(5)`` alone may be a label."""
    return text[1:-1] if re.fullmatch(rf"\(.*[{_CURRENCIES}.,].*\)", text) else text


def _trails(text: str) -> bool:
    """Return whether a minus stands behind the number, as accounting programs write it; ``2-`` may
    be a grade.
    """
    return re.fullmatch(r"[\d.,]*[.,]\d+-", text) is not None


def is_scaled(text: str) -> bool:
    """Return whether a text is a number in thousands, millions or billions, such as ``$1.2M``."""
    return _SCALED.fullmatch(text) is not None


def _signs(digits: str) -> str | None:
    """Return the decimal sign that ``digits`` show, ``.,`` where it may be either, None for no
    number.
    """
    if _PLAIN.fullmatch(digits):
        return ""
    if spaced := _SPACED.fullmatch(digits):
        return next((sign for sign in ".," if sign in spaced[0]), "")
    if _INDIAN.fullmatch(digits):
        return "."
    possible = [sign for sign in ".," if _DECIMAL[sign].fullmatch(digits) or _GROUPED[sign].fullmatch(digits)]
    return "".join(possible) or None


def value_of(text: str, decimal: str) -> float | None:
    """Return the number that ``text`` writes with this decimal sign, without its unit; None if it
    is none.

    ``12%`` is 12. The other sign, a space or an apostrophe may stand between thousands.

    Example:
        >>> value_of("$1,200.50", "."), value_of("1.200,5", ","), value_of("12%", "."), value_of("1,5", ".")
        (1200.5, 1200.5, 12.0, None)
    """
    digits, unit = _bare(text)
    head = text.strip().replace("\u2212", "-").replace(unit, "", 1).lstrip() if unit else text.strip()
    negative = head.startswith(("-", "\u2212", "(")) or _trails(head)
    if _GROUPED[decimal].fullmatch(digits) or (decimal == "." and _INDIAN.fullmatch(digits)):
        digits = digits.replace("." if decimal == "," else ",", "")
    elif _SPACED.fullmatch(digits):
        digits = re.sub(f"[{_SPACES}]", "", digits)
    if not (_PLAIN.fullmatch(digits) or _DECIMAL[decimal].fullmatch(digits)):
        return None
    number = float(digits.replace(decimal, "."))
    return -number if negative else number

"""The sweep functions ``log(low,high,n)`` and ``linear(low,high,n)`` on Hydra's command line.

Hydra's grammar refuses functions that it does not know, before any sweeper is asked. So the command
line is rewritten first: ``key=log(1e-4,1e-2,3)`` becomes ``key=choice(0.0001,0.001,0.01)``. Inside
a list or a dict (``sweep.blocks``) Hydra cannot hold a sweep, so there it becomes a quoted string,
which the sweeper reads.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException

from reglab.core.errors import UserError
from reglab.core.override import in_grammar

Number = int | float
MOST_JOBS = 100_000
_OURS = re.compile(r"\b(log|linear)\(")


def log(low: Number, high: Number, n: int) -> list[Number]:
    """Return ``n`` values, evenly spaced on a logarithmic scale, rounded to few digits.

    Args:
        low: The first value, > 0.
        high: The last value, > 0.
        n: At least 2.

    Returns:
        Integers where both ends are integers and every value is one; floats otherwise.

    Raises:
        ValueError: An end is not above 0, or ``n`` is below 2.
    """
    _check_count("log", n)
    if not (0 < low < float("inf") and 0 < high < float("inf")):
        raise ValueError(f"log needs both ends above 0, got log({low},{high},{n})")
    return _tidy(low, high, [low * (high / low) ** (step / (n - 1)) for step in range(n)])


def linear(low: Number, high: Number, n: int) -> list[Number]:
    """Return ``n`` evenly spaced values, rounded to few digits; integers as in ``log``.

    Args:
        low: The first value.
        high: The last value.
        n: At least 2.

    Raises:
        ValueError: ``n`` is below 2.
    """
    _check_count("linear", n)
    return _tidy(low, high, [low + (high - low) * step / (n - 1) for step in range(n)])


def grammar(loader: ConfigLoader | None = None) -> OverridesParser:
    """Return Hydra's override parser with ``log`` and ``linear`` registered.

    Args:
        loader: Hydra's, by which ``glob(...)`` finds the options of a group.
    """
    functions = create_functions()
    functions.register(name="log", func=_choice_of_log)
    functions.register(name="linear", func=_choice_of_linear)
    return OverridesParser(functions=functions, config_loader=loader)


def rewrite(arguments: Sequence[str]) -> list[str]:
    """Return overrides that Hydra's own grammar can parse; unreadable ones are left to Hydra."""
    parser = grammar()
    return [_rewrite(parser, argument) if _OURS.search(argument) else argument for argument in arguments]


def values(override: Override) -> list[str]:
    """Return an override's values as text for the grammar: several for a sweep, else one."""
    if isinstance(override._value, ChoiceSweep):
        return _choices(list(override.sweep_iterator()), override._value.simple_form)
    swept: Any = override._value
    if isinstance(swept, Glob):
        return _options(override)
    if override.is_sweep_override():
        if isinstance(override._value, RangeSweep):
            _check_range(override)
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


# Hydra's grammar checks a function's arguments against its annotations.
def _choice_of_log(low: int | float, high: int | float, n: int) -> ChoiceSweep:
    return ChoiceSweep(list=list(log(low, high, n)))


def _choice_of_linear(low: int | float, high: int | float, n: int) -> ChoiceSweep:
    return ChoiceSweep(list=list(linear(low, high, n)))


def _rewrite(parser: OverridesParser, argument: str) -> str:
    try:
        override = parser.parse_override(argument)
        value: Any = override.value()
        if isinstance(value, ChoiceSweep):
            return f"{override.get_key_element()}=choice({','.join(values(override))})"
        if isinstance(value, (list, dict)):
            quoted = dataclasses.replace(override, _value=_quote(override._value))
            return f"{override.get_key_element()}={quoted.get_value_element_as_str()}"
    except HydraException as error:
        if isinstance(error.__cause__, (ValueError, TypeError)) and _OURS.search(argument):
            raise UserError(f"{argument}: {error.__cause__}") from error  # Hydra does not know the function
    return argument


def _quote(value: Any) -> Any:
    """Return a parsed value with every sweep inside it as a quoted string."""
    if isinstance(value, Sweep):
        return QuotedString(_source(value), Quote.single)
    if isinstance(value, dict):
        return {key: _quote(item) for key, item in value.items()}
    return [_quote(item) for item in value] if isinstance(value, list) else value


def _choices(items: Sequence[Any], quotes_kept: bool) -> list[str]:
    """Return values as text; Hydra drops the quotes of what stood in ``choice(...)``."""
    return [Override._get_value_element_as_str(item) if quotes_kept else _choice(item) for item in items]


def _choice(item: Any) -> str:
    value = Override._convert_value(item)
    return in_grammar(value) if isinstance(value, (str, list, dict)) else Override._get_value_element_as_str(item)


def _options(override: Override) -> list[str]:
    """Return the options of a group that ``glob(...)`` matches."""
    key = override.key_or_group
    if override.config_loader is None:
        raise UserError(f"{key}: glob(...) stands on the command line; in sweep.blocks name the options, as a,b,c")
    found = [str(name) for name in override.sweep_iterator() if not str(name).startswith("_")]
    if not found:
        raise UserError(
            f"{override.input_line}: no option of {key} matches; glob(...) is for groups, such as optimizer"
        )
    return found


def _source(sweep: Sweep) -> str:
    if isinstance(sweep, RangeSweep):
        return f"range({sweep.start},{sweep.stop},{sweep.step})"
    if isinstance(sweep, ChoiceSweep):
        return f"choice({','.join(_choices(sweep.list, sweep.simple_form))})"
    raise HydraException(f"only choice, range, log and linear can stand inside sweep.blocks, got {sweep}")


def _check_count(name: str, n: int) -> None:
    if not 2 <= n <= MOST_JOBS:
        raise ValueError(f"{name}(low,high,n) needs n >= 2 values and at most {MOST_JOBS:,}, got {n}")


def _check_range(override: Override) -> None:
    """Refuse a range of more values than a sweep has jobs, before they are listed."""
    swept: Any = override._value
    if swept.step and abs((swept.stop - swept.start) / swept.step) > MOST_JOBS:
        raise UserError(f"{override.input_line}: a sweep has at most {MOST_JOBS:,} jobs: give fewer values")


def _tidy(low: Number, high: Number, exact: Sequence[Number]) -> list[Number]:
    """Round to the fewest digits, at least 3, with errors below 1% of the smallest step."""
    closest = min(abs(after - before) for before, after in itertools.pairwise(exact))
    for digits in range(3, 17):
        rounded = [float(f"{value:.{digits}g}") for value in exact]
        if all(abs(short - value) <= closest / 100 for short, value in zip(rounded, exact, strict=True)):
            break
    rounded[0], rounded[-1] = float(low), float(high)
    if isinstance(low, int) and isinstance(high, int) and all(value.is_integer() for value in rounded):
        return [int(value) for value in rounded]
    return list(rounded)

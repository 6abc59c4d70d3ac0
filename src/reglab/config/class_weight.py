"""``data.class_weight={">50K": 3}`` on the command line: Hydra's grammar has no quotes for keys."""

from collections.abc import Sequence

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from reglab.core.override import override

CLASS_WEIGHT = "data.class_weight"


def with_pairs(arguments: Sequence[str]) -> list[str]:
    """Return overrides in which classes that Hydra cannot read as keys are pairs with their
    weights.

    ``{">50K": 3}`` becomes ``[[">50K",3]]``, which ``data.class_weight`` takes as well.
    """
    return [_with_pairs(argument) for argument in arguments]


def _with_pairs(argument: str) -> str:
    key, _, value = argument.partition("=")
    if key.lstrip("+") != CLASS_WEIGHT or not value.startswith("{"):
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        try:
            weights = yaml.safe_load(value)
        except yaml.YAMLError:  # Hydra reports the argument
            return argument
        return override(key, [list(pair) for pair in weights.items()]) if isinstance(weights, dict) else argument
    return argument

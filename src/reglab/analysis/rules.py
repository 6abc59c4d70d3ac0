"""Selection rules of a sweep: ``best``, ``paired_1se``, ``1se``."""

from typing import Literal, get_args

from reglab.core.errors import UserError, nearest

Rule = Literal["best", "paired_1se", "1se"]
RULES: tuple[Rule, ...] = get_args(Rule)
DEFAULT: Rule = "best"  # by the study in docs/choosing.md


def check_rule(rule: object) -> Rule:
    """Return ``rule``. Raises UserError if it is unknown."""
    for known in RULES:
        if rule == known:
            return known
    raise UserError(f"sweep.rule={rule} is unknown; {nearest(str(rule), RULES)}")

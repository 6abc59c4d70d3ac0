"""The rules by which a sweep chooses among its settings."""

from typing import Literal, get_args

from reglab.core.errors import UserError, nearest

Rule = Literal["best", "paired_1se", "1se"]
RULES: tuple[Rule, ...] = get_args(Rule)
DEFAULT: Rule = "best"  # by the study in docs/choosing.md


def check_rule(rule: object) -> Rule:
    """Return ``rule``. Raises UserError for one that there is not."""
    for known in RULES:
        if rule == known:
            return known
    raise UserError(f"sweep.rule={rule} is unknown; {nearest(str(rule), RULES)}")

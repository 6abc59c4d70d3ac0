"""Names of metrics that a module logs, as every store takes them."""

import re

_PREFIX = re.compile(r"^(val|valid|validation|dev|eval|test)[/_.-]")
_OTHERS = re.compile(r"[^\w./ :-]", re.ASCII)  # than what MLflow takes


def storable_name(name: str) -> str:
    """Return a name with what MLflow does not take replaced by ``_``.

    Args:
        name: As a module logs it.

    Example:
        >>> storable_name("val/acc@5"), storable_name("//a/../b")
        ('val/acc_5', 'a/_/b')
    """
    parts = (_OTHERS.sub("_", part) for part in name.split("/"))
    return "/".join("_" if set(part) == {"."} else part for part in parts if part) or "_"


def without_part(name: str) -> str:
    """Return a name without the part of the data that it begins with.

    Args:
        name: As a module logs it.

    Example:
        >>> without_part("val/acc"), without_part("valid_loss"), without_part("loss")
        ('acc', 'loss', 'loss')
    """
    return storable_name(_PREFIX.sub("", name))

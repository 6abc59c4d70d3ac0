"""The values of nested containers, each under its dotted key."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything in ``node`` that holds nothing else.

    Elements of a list have the list's key. ``+`` and ``~`` before a name are left out.

    Args:
        node: Containers as Hydra's grammar or a config has them.
        key: Of ``node`` itself.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from leaves(value, f"{key}.{str(name).lstrip('+~')}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from leaves(value, key)
    else:
        yield key, getattr(node, "text", node)  # Hydra's grammar keeps quotes apart

"""How large a config becomes once its interpolations are resolved, told without resolving them."""

import re
from collections.abc import Mapping
from typing import Any

from reglab.core.errors import UserError

_LARGEST = 4_000_000  # characters and values
_BRACES = re.compile(r"\$\{(?=([^{}]*))")
_PATH = re.compile(r"\.*[\w-]+(?:[.\[][\w-]+\]?)*")
_PARTS = re.compile(r"[\w-]+")


def check_expansion(config: Any) -> None:
    """Refuse a config whose values refer to each other so often that they would fill the memory.

    ``a: ${b}${b}``, ``b: ${c}${c}`` and so on doubles with every line ("billion laughs").

    Args:
        config: Plain containers, interpolations unresolved.

    Raises:
        UserError: Naming a key where it becomes too large.
    """
    try:
        _Weights(config).of(())
    except RecursionError:
        raise UserError("the interpolations of the config form too long a chain: write the values") from None


class _Weights:
    """The weight of each node: its characters and values, with those that it refers to."""

    def __init__(self, config: Any) -> None:
        self.config, self.known, self.unfinished = config, dict[tuple[str, ...], int](), set[tuple[str, ...]]()

    def of(self, path: tuple[str, ...]) -> int:
        """Return the weight of the node at ``path``; what refers to itself, OmegaConf reports."""
        if path in self.unfinished:
            return 0
        if path not in self.known:
            self.unfinished.add(path)
            self.known[path] = self._weigh(path, self._node(path))
            self.unfinished.discard(path)
        if self.known[path] > _LARGEST:
            raise UserError(f"{'.'.join(path)} is too large once its interpolations are resolved: write its value")
        return self.known[path]

    def _weigh(self, path: tuple[str, ...], node: Any) -> int:
        if isinstance(node, Mapping):
            return 1 + sum(self.of((*path, str(name))) for name in node)
        if isinstance(node, (list, tuple)):
            return 1 + sum(self.of((*path, str(index))) for index in range(len(node)))
        text = str(node)
        named = [word for inner in _BRACES.findall(text) for word in _PATH.findall(inner)] if "${" in text else []
        return 1 + len(text) + sum(self.of(found) for word in named if (found := self._target(path, word)))

    def _target(self, path: tuple[str, ...], word: str) -> tuple[str, ...] | None:
        """Return the path that a word of an interpolation names, if there is such a node."""
        up = len(word) - len(word.lstrip("."))
        target = (*(path[: max(0, len(path) - up)] if up else ()), *_PARTS.findall(word))
        try:
            self._node(target)
        except (KeyError, IndexError, ValueError, TypeError):
            return None
        return target

    def _node(self, path: tuple[str, ...]) -> Any:
        node = self.config
        for part in path:
            if isinstance(node, Mapping):
                node = node[part] if part in node else {str(name): value for name, value in node.items()}[part]
            elif isinstance(node, (list, tuple)):
                node = node[int(part)]
            else:
                raise KeyError(part)
        return node

"""Trusted packages: whose classes a configuration may name.

What others wrote (an experiment file, a checkpoint) cannot widen it.

Of torch only ``torch.nn`` and ``torch.optim``, whose classes compute. Elsewhere, and in
torchmetrics, some modules run or fetch what their arguments name, such as
``torchmetrics.text.BERTScore``: a pretrained model from any address.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf

from reglab.core.errors import UserError

KEY, VARIABLE = "trust", "REGLAB_TRUST"
_BUILT_IN = frozenset({"reglab", "torch.nn", "torch.optim"})
_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Let configurations and checkpoints name classes of these top-level packages.

    Raises:
        UserError: For a name that is no top-level package's, and for modules of Python itself.
    """
    _trusted.update(_checked(packages, "trust"))


def trust_config(config: Mapping[Any, Any]) -> None:
    """Trust what a composed config lists as ``trust``.

    Not for a config that was read back: its writer wrote the list.

    Raises:
        UserError: As ``trust`` does.
    """
    container: Any = OmegaConf.to_container(OmegaConf.create({KEY: config.get(KEY)}), resolve=True)
    packages = container[KEY] or []
    trust(*([packages] if isinstance(packages, str) else packages))


def trusted_packages() -> list[str]:
    """Return the trusted packages, without the built-in ones and those of REGLAB_TRUST."""
    return sorted(_trusted)


@contextmanager
def isolated() -> Iterator[None]:
    """Trust nothing that was listed before inside the block; afterwards that again."""
    before = set(_trusted)
    _trusted.clear()
    try:
        yield
    finally:
        _trusted.clear()
        _trusted.update(before)


def check_trusted(module: str, what: str, also: Iterable[str] = ()) -> None:
    """Raise UserError unless ``module`` lies in a trusted package.

    Args:
        what: What names it, for the message.
        also: Packages that are trusted for this call only.
    """
    named = os.environ.get(VARIABLE, "").split(",")
    variable = _checked([name.strip() for name in named if name.strip()], VARIABLE)
    if any(module == each or module.startswith(f"{each}.") for each in (*_BUILT_IN, *_trusted, *variable, *also)):
        return
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise UserError(f"{what}: a configuration may not name anything in Python's module {package}")
    part = f"{module} (unlike torch.nn and torch.optim)" if package == "torch" else package
    raise UserError(
        f"{what}: {part} is not trusted to be imported by a configuration; if it is yours, add trust=[{package}] "
        f"(or set {VARIABLE}={package}, or in Python: from reglab.config.trust import trust; trust({package!r}))"
    )


def _checked(packages: Iterable[object], key: str) -> list[str]:
    names = list(packages)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name in sys.stdlib_module_names:
            raise UserError(
                f"{key}: {name!r} is not the name of a top-level package of yours: write it as in trust=[my_package]"
            )
    return [str(name) for name in names]

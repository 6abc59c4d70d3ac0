"""Trusted packages: whose classes a configuration may name.

What others wrote (an experiment file, a checkpoint, the blocks of a sweep) cannot widen it: a
package is trusted by the command line, the environment or Python, never by what was composed.

Of torch only ``torch.nn`` and ``torch.optim``, whose classes compute, and of torchmetrics those of
classification and regression. Elsewhere in both, some modules run or fetch what their arguments name, such as
``torchmetrics.text.BERTScore``: a pretrained model from any address.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from reglab.core.errors import UserError

KEY, VARIABLE = "trust", "REGLAB_TRUST"
_BUILT_IN = frozenset({"reglab", "torch.nn", "torch.optim", "torchmetrics.classification", "torchmetrics.regression"})
_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Let configurations and checkpoints name classes of these top-level packages.

    Raises:
        UserError: For a name that is no top-level package's, and for modules of Python itself.
    """
    _trusted.update(_checked(packages, KEY))


def trusted_packages() -> list[str]:
    """Return the trusted packages, without the built-in ones and those of REGLAB_TRUST."""
    return sorted(_trusted)


def given_packages() -> list[str]:
    """Return the packages that the user trusts, by whatever way."""
    named = os.environ.get(VARIABLE, "").split(",")
    return sorted({*_trusted, *_checked([name.strip() for name in named if name.strip()], VARIABLE)})


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


def check_listed(listed: object) -> None:
    """Refuse a composed config's ``trust`` that lists more than the user trusts: a file wrote it.

    Args:
        listed: The config's value: a name, a list of names, or nothing.

    Raises:
        UserError: Naming what is not trusted.
    """
    if listed is not None and not isinstance(listed, Sequence):
        raise UserError(f"{KEY}={listed} must be a list of packages, as in trust=[my_package]")
    names = [listed] if isinstance(listed, str) else list(listed or [])
    if more := [name for name in names if name not in given_packages()]:
        raise UserError(
            f"trust={more} is set in a file, which may not: set it on the command line or in the environment variable "
            f"{VARIABLE}"
        )


def check_trusted(module: str, what: str) -> None:
    """Raise UserError unless ``module`` lies in a trusted package, built-in or the user's own.

    Args:
        module: Its dotted path.
        what: What names it, for the message.
    """
    if not _is_within(module, _BUILT_IN):
        check_given(module, what)


def check_given(module: str, what: str) -> None:
    """Raise UserError unless ``module`` lies in a package that the user trusts.

    Args:
        module: Its dotted path.
        what: What names it, for the message.
    """
    if is_given(module):
        return
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise UserError(f"{what}: a configuration may not name anything in Python's module {package}")
    part = f"{module} (unlike torch.nn and torch.optim)" if package == "torch" else package
    raise UserError(
        f"{what}: {part} is not trusted to be imported by a configuration; if it is yours, add trust=[{package}] "
        f"(or set {VARIABLE}={package}, or in Python: from reglab.config.trust import trust; trust({package!r}))"
    )


def is_given(module: str) -> bool:
    """Return whether ``module`` lies in a package that the user trusts."""
    return _is_within(module, given_packages())


def _is_within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _checked(packages: Iterable[object], key: str) -> list[str]:
    names = list(packages)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name in sys.stdlib_module_names:
            raise UserError(
                f"{key}: {name!r} is not the name of a top-level package of yours: write it as in trust=[my_package]"
            )
    return [str(name) for name in names]

"""Import of optional packages (timm, transformers)."""

import importlib
from types import ModuleType

from reglab.core.errors import UserError


def imported(package: str) -> ModuleType:
    """Return the module ``package``, which the extra of the same name installs.

    Raises:
        UserError: If it is not installed, or if it is and cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise UserError(f"model: {package} cannot be imported ({error}); {_anew(package)}") from error
        raise UserError(f"model: {package} is not installed; {_install(package)}") from error
    # torchvision, which timm imports, raises RuntimeError where it was built for another torch.
    except (ImportError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0]
        advice = (
            "torchvision must be the build for this torch, CPU or CUDA: install both from one index (pytorch.org)"
            if "torchvision" in str(error)
            else _anew(package)
        )
        raise UserError(f"model: {package} is installed but cannot be imported ({first}); {advice}") from error


def _anew(package: str) -> str:
    return f"install what it needs: pip install --upgrade {package}"


def _install(package: str) -> str:
    return f"install it: pip install {package} (in a checkout of reglab: scripts/setup {package})"

"""Whether a job trains a user's LightningModule in Lightning's own loop (``model=lightning``), and
whether its data are a LightningDataModule.

No torch: packs are planned by it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MARK = "_loop_"  # the key of conf/model/lightning.yaml that says so
_LIGHTNING = "lightning"
_PACKAGES = ("pytorch_lightning.", "lightning.")


def uses_lightning_loop(config: Mapping[str, Any]) -> bool:
    """Return whether a composed config trains a LightningModule by its own steps.

    Args:
        config: Of a job.
    """
    model = config.get("model")
    return isinstance(model, Mapping) and model.get(MARK) == _LIGHTNING


def data_digest(node: Mapping[str, Any]) -> str:
    """Return the digest of the data of ``data=lightning``: with ``model=lightning``: of its
    config, since only code knows more.

    Args:
        node: ``data`` of a resolved config.
    """
    return hashlib.sha256(json.dumps(dict(node), sort_keys=True, default=str).encode()).hexdigest()


def is_data_module(config: Mapping[str, Any]) -> bool:
    """Return whether a job's data are a user's LightningDataModule (``data=lightning``).

    Args:
        config: Of a job.
    """
    data = config.get("data")
    return isinstance(data, Mapping) and data.get(MARK) == _LIGHTNING


def derives_from(cls: type, name: str) -> bool:
    """Return whether a class is derived from a class of either of Lightning's packages.

    Args:
        cls: Any class.
        name: Of Lightning's, such as ``LightningModule``.
    """
    return any(base.__name__ == name and base.__module__.startswith(_PACKAGES) for base in cls.__mro__)


def own_hook(cls: type, hook: str) -> type | None:
    """Return the class that defines a hook, if that is not Lightning's.

    Args:
        cls: Any class.
        hook: Such as ``training_step``.
    """
    owner = next((base for base in cls.__mro__ if hook in vars(base)), None)
    return None if owner is None or owner.__module__.startswith(_PACKAGES) else owner

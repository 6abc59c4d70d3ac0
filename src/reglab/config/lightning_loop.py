"""Whether a job trains a user's LightningModule in Lightning's own loop (``model=lightning``).

No torch: packs are planned by it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reglab.core.errors import UserError

MARK = "_loop_"  # the key of conf/model/lightning.yaml that says so
_LIGHTNING = "lightning"


def uses_lightning_loop(config: Mapping[str, Any]) -> bool:
    """Return whether a composed config trains a LightningModule by its own steps.

    Args:
        config: Of a job.
    """
    model = config.get("model")
    return isinstance(model, Mapping) and model.get(MARK) == _LIGHTNING


def check_pairing(config: Mapping[str, Any]) -> None:
    """Refuse a LightningDataModule for a network that is trained from tensors.

    Args:
        config: Of a job, resolved or not.

    Raises:
        UserError: With what to give instead.
    """
    if is_data_module(config) and not uses_lightning_loop(config):
        raise UserError(
            "data=lightning trains a LightningModule: add model=lightning model._target_=my_package.LitModel. A plain "
            "network is trained on data=table, image_folder or another data set of reglab"
        )


def data_digest(node: Mapping[str, Any]) -> str:
    """Return the digest of the data of ``data=lightning``: of its config, since only code knows more.

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

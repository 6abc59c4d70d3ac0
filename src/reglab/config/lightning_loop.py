"""Whether a job trains a user's LightningModule in Lightning's own loop (``model=lightning``).

No torch: packs are planned by it.
"""

from collections.abc import Mapping
from typing import Any

MARK = "_loop_"  # the key of conf/model/lightning.yaml that says so
_LIGHTNING = "lightning"


def uses_lightning_loop(config: Mapping[str, Any]) -> bool:
    """Return whether a composed config trains a LightningModule by its own steps.

    Args:
        config: Of a job.
    """
    model = config.get("model")
    return isinstance(model, Mapping) and model.get(MARK) == _LIGHTNING


def is_data_module(config: Mapping[str, Any]) -> bool:
    """Return whether a job's data are a user's LightningDataModule (``data=lightning``).

    Args:
        config: Of a job.
    """
    data = config.get("data")
    return isinstance(data, Mapping) and data.get(MARK) == _LIGHTNING

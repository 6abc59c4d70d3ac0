"""Resolve ``data.shape=auto`` to the input shape that the model reads."""

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from torch import nn

from reglab import models
from reglab.config.instantiate import locate
from reglab.data.digits import AUTO


def with_data_shape(config: DictConfig) -> DictConfig:
    """Return a job's config with ``data.shape=auto`` replaced by what its model reads; any other is
    returned as it is.

    Raises:
        UserError: If there is no such class of a model.
    """
    node = OmegaConf.select(config, "model")
    if OmegaConf.select(config, "data.shape", default=None) != AUTO or not node or not node.get("_target_"):
        return config
    resolved = config.copy()
    with read_write(resolved), open_dict(resolved):
        resolved.data.shape = models.reads(locate(node["_target_"], nn.Module, "model"), node)
    return resolved

"""Small networks, and any ``torch.nn.Module`` whose sizes are filled in from the data."""

from reglab.models.build import build
from reglab.models.cnn import CNN
from reglab.models.linear import Linear
from reglab.models.mlp import MLP
from reglab.models.sizes import reads
from reglab.models.timm import Timm
from reglab.models.transformers import Transformers

__all__ = ["CNN", "MLP", "Linear", "Timm", "Transformers", "build", "reads"]

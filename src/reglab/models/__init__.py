"""Small networks, and any ``torch.nn.Module`` whose sizes are filled in from the data."""

from reglab.models.build import build
from reglab.models.cnn import CNN
from reglab.models.linear import Linear
from reglab.models.mlp import MLP

__all__ = ["CNN", "MLP", "Linear", "build"]

"""Regularizers: one method, one file.

They import torch only, and can be lifted into any PyTorch program.
"""

from reglab.regularizers.base import Batch, Gradient, Objective, Outcome, Regularizer, overrides
from reglab.regularizers.cocktail import Cocktail, name_members
from reglab.regularizers.dropout import Dropout
from reglab.regularizers.early_stopping import EarlyStopping
from reglab.regularizers.elastic_net import ElasticNet
from reglab.regularizers.ema import EMA
from reglab.regularizers.flooding import Flooding
from reglab.regularizers.keys import Keys
from reglab.regularizers.l1 import L1
from reglab.regularizers.l1_subgradient import L1Subgradient
from reglab.regularizers.l2 import L2
from reglab.regularizers.label_smoothing import LabelSmoothing
from reglab.regularizers.max_norm import MaxNorm
from reglab.regularizers.mixup import Mixup
from reglab.regularizers.sam import SAM
from reglab.regularizers.weight_decay import WeightDecay
from reglab.regularizers.weight_decay_fixed import WeightDecayFixed

__all__ = [
    "EMA",
    "L1",
    "L2",
    "SAM",
    "Batch",
    "Cocktail",
    "Dropout",
    "EarlyStopping",
    "ElasticNet",
    "Flooding",
    "Gradient",
    "Keys",
    "L1Subgradient",
    "LabelSmoothing",
    "MaxNorm",
    "Mixup",
    "Objective",
    "Outcome",
    "Regularizer",
    "WeightDecay",
    "WeightDecayFixed",
    "name_members",
    "overrides",
]

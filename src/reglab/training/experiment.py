"""``Experiment``: model, cocktail, data and settings of one job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from torch import nn

from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail
from reglab.training.recipe import Recipe


@dataclass(frozen=True)
class Experiment:
    """What one job trains and how.

    Args:
        trainer: Arguments of ``pytorch_lightning.Trainer``.
        description: Plain values in the checkpoints, from which ``reglab.load`` builds the model
            again.
        callbacks: The user's, which observe.
    """

    model: nn.Module
    cocktail: Cocktail
    data: DataSet
    recipe: Recipe
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_seconds: float = 10.0
    callbacks: Sequence[pl.Callback] = ()

    def __post_init__(self) -> None:
        seconds = self.checkpoint_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise UserError(f"trainer.checkpoint_seconds={seconds} must be a number of seconds >= 0")
        if (average := self.recipe.average()) is not None:
            self.cocktail.judge_by(average)

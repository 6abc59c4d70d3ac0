"""The end of training: which weights the run stands for, and what they reach."""

import pytorch_lightning as pl
import torch
from torch import nn

from reglab.measures import to_floats
from reglab.regularizers import Cocktail
from reglab.training.checkpoints import Checkpoints
from reglab.training.recorder import Recorder
from reglab.training.solo import Solo


class Closing(pl.Callback):
    """Measures the weights that the run stands for: the best epoch's where a member may stop early, else the last.

    It stands behind ``checkpoints``, so that ``last.ckpt`` holds the last weights.
    """

    def __init__(self, recorder: Recorder, checkpoints: Checkpoints) -> None:
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.final: dict[str, float] = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Solo)
        self.final = self.recorder.latest | {"epoch": float(trainer.current_epoch)}
        best, measurement = self.checkpoints.best_weights, self.recorder.measurement
        if not pl_module.cocktail.stops or best is None or measurement is None:
            return
        if not pl_module.sharded:
            pl_module.to(measurement.probe[0].device)  # Lightning has moved it to the CPU
        pl_module.restore(best)
        with trainer.precision_plugin.val_step_context():
            found = measurement.gap(pl_module.body, pl_module.cocktail)
        found |= measurement.weights(pl_module.body, pl_module.cocktail)
        self.final |= to_floats(found) | {"epoch": float(self.checkpoints.best_epoch)}
        # The update of that epoch was recorded in it; measured now it would be the way back from the last.
        self.final = {key: value for key, value in self.final.items() if not key.endswith("/update")}


def settle(model: nn.Module, cocktail: Cocktail) -> None:
    """Put the weights that the run is judged by, such as averaged ones, into ``model`` for good."""
    tensors = dict(model.named_parameters()) | {name: model.get_buffer(name) for name in cocktail.statistics}
    with cocktail.evaluating(model):
        judged = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(judged[name])

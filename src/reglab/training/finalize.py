"""Final measurement after training: load the best or last weights and measure them."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reglab.analysis.per_example_file import Examples
from reglab.measures import to_floats
from reglab.regularizers import Cocktail
from reglab.training.checkpoints import Checkpoints
from reglab.training.measurement import Measurement
from reglab.training.per_example import examples, measured_rows
from reglab.training.recorder import Recorder
from reglab.training.solo import Solo


class Finalizer(pl.Callback):
    """Measures the weights that the run stands for: the best epoch's where a member may stop early,
    else the last.

    It stands behind ``checkpoints``, so that ``last.ckpt`` holds the last weights.

    Attributes:
        examples: What these weights reach on each example, of the first rank's process.
    """

    def __init__(self, recorder: Recorder, checkpoints: Checkpoints) -> None:
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.final: dict[str, float] = {}
        self.examples: Examples | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Solo)
        self.final = self.recorder.latest | {"epoch": float(trainer.current_epoch)}
        measurement = self.recorder.measurement
        assert measurement is not None
        self._measure_best(trainer, pl_module, measurement)
        if measurement.evaluations is None:  # resumed where nothing was left to train
            self._gap(trainer, pl_module, measurement)
        if measurement.evaluations is not None and trainer.is_global_zero:
            rows = measured_rows(self.recorder.data, measurement.settings)
            dtype = next(iter(pl_module.local_parameters.weights.values())).dtype
            self.examples = examples(rows, measurement.evaluations, measurement.task, dtype)

    def _measure_best(self, trainer: pl.Trainer, pl_module: Solo, measurement: Measurement) -> None:
        """Load and measure the best epoch's weights, where a member may stop early."""
        best = self.checkpoints.best_weights
        if not pl_module.cocktail.stops or best is None:
            return
        pl_module.restore(best)
        metrics = self._gap(trainer, pl_module, measurement)
        metrics |= measurement.weights(pl_module.local_parameters, pl_module.cocktail)
        self.final |= to_floats(metrics) | {"epoch": float(self.checkpoints.best_epoch)}
        # The update of that epoch was recorded in it; measured now it would be the way back from
        # the last.
        self.final = {key: value for key, value in self.final.items() if not key.endswith("/update")}

    def _gap(self, trainer: pl.Trainer, pl_module: Solo, measurement: Measurement) -> dict[str, Tensor]:
        if not pl_module.sharded:
            pl_module.to(measurement.probe[0].device)  # Lightning has moved it to the CPU
        with trainer.precision_plugin.val_step_context():
            return measurement.gap(pl_module.local_parameters, pl_module.cocktail)


def load_evaluation_weights(model: nn.Module, cocktail: Cocktail) -> None:
    """Copy the evaluation weights, such as averaged ones, into ``model``.

    Args:
        model: Changed in place.
        cocktail: Which may keep averaged weights.
    """
    tensors = dict(model.named_parameters()) | {name: model.get_buffer(name) for name in cocktail.statistics}
    with cocktail.evaluating(model):
        values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(values[name])

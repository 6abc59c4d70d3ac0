"""Final measurement after training: load the best or last weights and measure them."""

import pytorch_lightning as pl
import torch
from torch import nn

from reglab.analysis.per_example_file import Examples
from reglab.measures import to_floats
from reglab.regularizers import Cocktail
from reglab.training.best_epoch import final_metrics
from reglab.training.checkpoints import Checkpoints
from reglab.training.per_example import examples, has_examples, measured_rows
from reglab.training.recorder import Recorder
from reglab.training.solo import Solo


class Finalizer(pl.Callback):
    """Measures the weights that the run stands for: the best epoch's where a member may stop early,
    else the last.

    It stands behind ``checkpoints``, so that ``last.ckpt`` holds the last weights.

    Attributes:
        final: Their metrics.
        examples: What they reach on each example, of the first rank's process.
    """

    def __init__(self, module: Solo, recorder: Recorder, checkpoints: Checkpoints) -> None:
        self.module = module
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.final: dict[str, float] = {}
        self.examples: Examples | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, measurement = self.module, self.module.measurement
        best, metrics = self.checkpoints.best_weights, None
        if not module.sharded:
            module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        if module.cocktail.stops and best is not None:
            module.restore(best)
            metrics = self._measured_best()
        elif measurement.evaluations is None:  # resumed where nothing was left to train
            module.measure_gap()
        latest = self.recorder.latest.get(0, {})
        self.final = final_metrics(latest, trainer.current_epoch, metrics, self.checkpoints.best_epoch)
        evaluations = measurement.evaluations
        at_end = to_floats(measurement.at_end(module.local_parameters, module.cocktail))
        if at_end and trainer.is_global_zero:
            self.recorder.log_end(0, at_end, int(self.final["epoch"]))
        self.final |= at_end
        if evaluations is not None and trainer.is_global_zero and has_examples(module.task, evaluations):
            rows = measured_rows(self.recorder.data[0], measurement.settings)
            dtype = next(iter(module.local_parameters.weights.values())).dtype
            self.examples = examples(rows, evaluations, module.task, dtype)

    def _measured_best(self) -> dict[str, float]:
        """Evaluate the best epoch's weights for their examples, and return what was recorded of
        them, or what is measured where an older checkpoint does not tell.
        """
        gap = self.module.measure_gap()
        return self.checkpoints.record.metrics[0] or to_floats(gap | self.module.measure_weights())


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

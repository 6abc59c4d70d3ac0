"""Measure the gap by a LightningModule's own ``validation_step``, on both sides alike."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torchmetrics import Metric

from reglab.callback.dataloader_rows import batches_in_order
from reglab.callback.measurement import loaders_of, on_device, validating
from reglab.core.errors import UserError
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import MeasureSettings, probe_size
from reglab.measures.evaluate import evaluation_mode
from reglab.measures.intervals import Estimated, difference, mean_interval
from reglab.regularizers import Cocktail
from reglab.training.measurement import Measurement

_PREFIX = re.compile(r"^(val|valid|validation|dev|eval|test)[/_.-]")
_LOWER = re.compile(r"loss|error|nll|perplexity|(^|_)(mse|mae|rmse|wer|cer|fid)($|_)")
_LEAST_BATCHES = 10  # from which on their spread gives an interval
_SEED = 0  # of the draws in datasets and steps, the same at every measurement


class StepMeasurement(Measurement):
    """Measures what ``validation_step`` returns and logs, on the validation batches and on as many
    training rows, in the same way.

    The steps see the module in evaluation mode and ``trainer.validating``. What they log reaches
    neither logger nor callbacks, and metrics of the module (torchmetrics) are afterwards what they
    were.

    Args:
        trainer: During a fit, its loaders set up.
        module: A LightningModule.
        settings: What is measured.

    Raises:
        UserError: Where there is no ``validation_step``, or no loader for it.
    """

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, settings: MeasureSettings) -> None:
        super().__init__(None, settings, trainer.world_size)
        self._trainer, self._module = trainer, module
        sources = loaders_of(trainer)
        if sources.missing:
            raise UserError(f"{type(module).__name__}: the gap is not measured, since {sources.missing}")
        self._val = lambda: batches_in_order(sources.val, None, sources.val_batches)
        rows, val_rows = self._length(sources.train), self._length(sources.val)
        wanted = probe_size(rows, val_rows, settings.probe_rows)
        self._left = 1 - wanted / rows
        self._train = lambda: batches_in_order(sources.train, lambda _: wanted, sources.train_batches)

    def _length(self, loader: Any) -> int:
        try:
            return len(loader.dataset)
        except TypeError:
            raise UserError(
                "data.task=null measures rows of loaders that know their length, and this dataset is a stream: give "
                "data.task"
            ) from None

    def gap(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return each value of both sides, and the gap; of the loss with intervals.

        Args:
            model: The module.
            cocktail: Which may keep averaged weights.
        """
        parameters = as_local_parameters(model)
        with cocktail.evaluating(parameters.hook_target):
            train, val = (self._estimates(batches) for batches in (self._train, self._val))
        metrics: dict[str, Tensor] = {}
        for name in val:
            if name in train:
                metrics |= self._both(name, train[name], val[name])
        if "val/loss" not in metrics:
            raise UserError(
                f"{type(self._module).__name__}.validation_step neither returns nor logs a loss: end it by "
                "self.log('val/loss', loss), or give data.task, by which outputs are compared with targets"
            )
        return metrics

    def _both(self, name: str, train: Estimated, val: Estimated) -> dict[str, Tensor]:
        fitted = train.of_a_part(self._left) if self._left == 0 or not train.error.isnan() else train
        first, second = (val, fitted) if _LOWER.search(name) else (fitted, val)
        metrics = {f"train/{name}": train.value, f"val/{name}": val.value, f"gap/{name}": first.value - second.value}
        if name == "loss":
            low, high = difference(first, second)
            metrics |= {"val/loss_se": val.error, "gap/loss_low": low, "gap/loss_high": high}
        return metrics

    def _estimates(self, batches: Callable[[], Iterable[Any]]) -> dict[str, Estimated]:
        """Return what the steps on some batches give, by name without a prefix such as ``val/``."""
        trainer, module = self._trainer, self._module
        logged = _Logged()
        numbered = is_param_in_hook_signature(module.validation_step, "batch_idx", min_args=2)
        with isolate_rng(), validating(trainer), evaluation_mode(module), torch.no_grad(), _kept_metrics(module):
            torch.manual_seed(_SEED)
            with logged.instead_of_logging(module), trainer.precision_plugin.val_step_context():
                for number, batch in enumerate(batches()):
                    ready = on_device(trainer, module, batch)
                    logged.begin(ready)
                    returned = module.validation_step(ready, number) if numbered else module.validation_step(ready)
                    logged.returned(returned)
            return logged.estimates(self.settings.level)


class _Value(NamedTuple):
    """A value that a step logged of its batch.

    Args:
        rows: What it counts by.
    """

    value: float
    rows: int


class _Logged:
    """What the steps of one side return and log."""

    def __init__(self) -> None:
        self.values: dict[str, list[_Value]] = defaultdict(list)
        self.metrics: dict[str, Metric] = {}
        self._rows = 1

    def begin(self, batch: Any) -> None:
        self._rows = _rows_of(batch) or 1

    def returned(self, outputs: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            self.values[""].append(_Value(float(loss), self._rows))

    @contextmanager
    def instead_of_logging(self, module: pl.LightningModule) -> Iterator[None]:
        """Let ``module.log`` and ``module.log_dict`` come here inside the context."""
        own: dict[str, Any] = vars(module)
        before: dict[str, Any] = {name: own[name] for name in ("log", "log_dict") if name in own}
        own["log"] = self._log
        own["log_dict"] = self._log_dict
        try:
            yield
        finally:
            for name in ("log", "log_dict"):
                del own[name]
            own |= before

    def _log(self, name: str, value: Any, *_: Any, batch_size: int | None = None, **__: Any) -> None:
        key = _PREFIX.sub("", name)
        if isinstance(value, Metric):
            self.metrics[key] = value
        elif isinstance(value, Mapping):
            self._log_dict({f"{name}.{inner}": each for inner, each in value.items()}, batch_size=batch_size)
        else:
            self.values[key].append(_Value(float(value), batch_size or self._rows))

    def _log_dict(self, dictionary: Mapping[str, Any], *_: Any, batch_size: int | None = None, **__: Any) -> None:
        for name, value in dictionary.items():
            self._log(name, value, batch_size=batch_size)

    def estimates(self, level: float) -> dict[str, Estimated]:
        """Return each value over all batches: a mean of batches by their rows, or what a metric
        computes. The loss is what was returned, else what was logged as ``loss``.
        """
        found = {name: _of_batches(values, level) for name, values in self.values.items()}
        unknown = torch.tensor(torch.nan)
        for name, metric in self.metrics.items():
            computed = metric.compute()
            if isinstance(computed, Tensor) and computed.numel() == 1:
                found[name] = Estimated(computed.detach().float().cpu().reshape(()), unknown, unknown, unknown)
        if "" in found:
            found["loss"] = found.pop("")
        return found


def _of_batches(values: list[_Value], level: float) -> Estimated:
    """Return the mean over rows of batch means, with the interval that the batches' spread gives."""
    means, rows = (torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True))
    share = rows / rows.mean()
    mean = (share * means).mean()
    if len(values) < _LEAST_BATCHES:
        unknown = torch.tensor(torch.nan, dtype=torch.float64)
        return Estimated(mean, unknown, unknown, unknown)
    return mean_interval(mean + share * (means - mean), level)


def _rows_of(batch: Any) -> int | None:
    """Return the length of the first tensor in a batch, however it is nested."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else None
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    return next((rows for part in parts if (rows := _rows_of(part)) is not None), None)


@contextmanager
def _kept_metrics(module: nn.Module) -> Iterator[None]:
    """Reset the module's torchmetrics inside the context, and give them back their state."""
    metrics = [part for part in module.modules() if isinstance(part, Metric)]
    # Lists are copied: torchmetrics empties them in place.
    states = [
        {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(metric).items()
            if name in _STATE or name in metric._defaults
        }
        for metric in metrics
    ]
    for metric in metrics:
        metric.reset()
    try:
        yield
    finally:
        for metric, state in zip(metrics, states, strict=True):
            for name, value in state.items():
                setattr(metric, name, value)


_STATE = ("_update_count", "_computed", "_forward_cache", "_cache", "_is_synced")

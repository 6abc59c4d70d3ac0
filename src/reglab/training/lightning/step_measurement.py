"""Measure the gap by a LightningModule's own ``validation_step``, on both sides alike."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torchmetrics import Metric

from reglab.analysis.per_example_file import Examples
from reglab.callback.fixed_batches import MEMORY, FixedBatches, fixed_seeds
from reglab.callback.measurement import loaders_of, read_sides, validating
from reglab.core.errors import UserError
from reglab.core.metric_direction import declare
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import MeasureSettings
from reglab.measures.evaluate import evaluation_mode
from reglab.measures.intervals import Estimated, difference, mean_interval
from reglab.regularizers import Cocktail
from reglab.training.lightning.kept_state import kept_state
from reglab.training.measurement import Measurement
from reglab.training.metric_names import without_part

_LOWER = re.compile(
    r"loss|error|nll|perplexity|distance|divergence|brier|(^|[_/])(mse|mae|mape|rmse|wer|cer|fid|ece|log_loss)($|[_/])",
    re.IGNORECASE,
)
_LEAST_BATCHES = 10  # from which on their spread gives an interval


class StepMeasurement(Measurement):
    """Measures what ``validation_step`` returns and logs, on the validation batches and on as many
    training rows, in the same way.

    The steps see the module in evaluation mode and ``trainer.validating``. What they log reaches
    neither logger nor callbacks, and what the module keeps of its steps (lists of outputs, counters,
    metrics of torchmetrics) is afterwards what it was.

    Args:
        trainer: During a fit, its loaders set up.
        module: A LightningModule.
        settings: What is measured.

    Attributes:
        score: The name of the first value beside the loss; empty without one.
        lower: The values of which a lower one is better, by their names.

    Raises:
        UserError: Where there is no ``validation_step``, or no loader for it.
    """

    score = ""
    lower: tuple[str, ...] = ()

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, settings: MeasureSettings) -> None:
        super().__init__(None, settings, trainer.world_size)
        self._trainer, self._module = trainer, module
        loaders = loaders_of(trainer)
        if loaders.missing:
            raise UserError(f"{type(module).__name__}: the gap is not measured, since {loaders.missing}")
        self._sides = read_sides(trainer, module, loaders, None, MEMORY, settings.probe_rows)

    def gap(
        self, model: nn.Module | LocalParameters, cocktail: Cocktail, epoch: int = 1, last: bool = True
    ) -> dict[str, Tensor]:
        """Return each value of both sides, and the gap; of the loss with intervals.

        Args:
            model: The module.
            cocktail: Which may keep averaged weights.
            epoch: Counted from 1.
            last: It is the last one, as far as is known.
        """
        parameters = as_local_parameters(model)
        with cocktail.evaluating(parameters.hook_target):
            self._logged = tuple(self._steps(batches) for batches in self._sides.both)
        train, val = (logged.estimates(self.settings.level) for logged in self._logged)
        self.score = next((name for name in val if name in train and name != "loss"), "")
        higher = self._logged[1].higher
        self.lower = tuple(name for name in val if name != "loss" and not higher.get(name, not _LOWER.search(name)))
        for name in val:
            declare(name.rpartition("/")[2], higher=name not in (*self.lower, "loss"))
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
        fitted = train.of_a_part(self._sides.left) if self._sides.left == 0 or not train.error.isnan() else train
        first, second = (val, fitted) if name in (*self.lower, "loss") else (fitted, val)
        metrics = {f"train/{name}": train.value, f"val/{name}": val.value, f"gap/{name}": first.value - second.value}
        if name == "loss" and not val.error.isnan():
            low, high = difference(first, second)
            metrics |= {"val/loss_se": val.error, "gap/loss_low": low, "gap/loss_high": high}
        return metrics

    def examples(self) -> Examples | None:
        """Return the loss of each batch of the last measurement, in the place of each example's.

        None where batches are too few to say anything by their spread.
        """
        probe, val = (logged.losses() for logged in self._logged)
        if min(len(probe), len(val)) < _LEAST_BATCHES:
            return None
        unknown = [np.full(len(losses), np.nan) for losses in (probe, val)]
        return Examples(
            np.arange(len(val)), val, unknown[1], np.arange(len(probe)), probe, unknown[0],
            train_rows=np.array(round(len(probe) / (1 - self._sides.left)) if self._sides.left < 1 else len(probe)),
        )  # fmt: skip

    def _steps(self, batches: FixedBatches) -> "_Logged":
        """Return what the steps on some batches give."""
        trainer, module = self._trainer, self._module
        logged = _Logged()
        numbered = is_param_in_hook_signature(module.validation_step, "batch_idx", min_args=2)
        with fixed_seeds(), validating(trainer), evaluation_mode(module), torch.no_grad(), kept_state(module):
            with logged.instead_of_logging(module), trainer.precision_plugin.val_step_context():
                for number, (batch, rows) in enumerate(batches.of_rank()):
                    logged.begin(rows)
                    returned = module.validation_step(batch, number) if numbered else module.validation_step(batch)
                    logged.returned(returned)
            logged.compute()
        return logged


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
        self.computed: dict[str, float] = {}
        self.higher: dict[str, bool] = {}  # what metrics say of themselves
        self._rows = 1

    def begin(self, rows: int) -> None:
        self._rows = max(rows, 1)

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
        key = without_part(name)
        if isinstance(value, Metric):
            self.metrics[key] = value
            if value.higher_is_better is not None:
                self.higher[key] = value.higher_is_better
            batch = getattr(value, "_forward_cache", None)  # its value on this batch, where the module called it
            if isinstance(batch, Tensor) and batch.numel() == 1:
                self.values[key].append(_Value(float(batch), batch_size or self._rows))
        elif isinstance(value, Mapping):
            self._log_dict({f"{name}.{inner}": each for inner, each in value.items()}, batch_size=batch_size)
        else:
            self.values[key].append(_Value(float(value), batch_size or self._rows))

    def _log_dict(self, dictionary: Mapping[str, Any], *_: Any, batch_size: int | None = None, **__: Any) -> None:
        for name, value in dictionary.items():
            self._log(name, value, batch_size=batch_size)

    def compute(self) -> None:
        """Let the metrics compute their values, before they get back their state."""
        for name, metric in self.metrics.items():
            computed = metric.compute()
            if isinstance(computed, Tensor) and computed.numel() == 1:
                self.computed[name] = float(computed)

    def losses(self) -> NDArray[np.float64]:
        """Return what each batch adds to the mean loss: their mean is the loss."""
        shares = self._batches("" if "" in self.values else "loss")
        return np.zeros(0) if shares is None else shares.numpy()

    def _batches(self, name: str) -> Tensor | None:
        """Return what each batch adds to a value, ``[batches]``; None where it is no mean of batches.

        A metric may weight batches by their rows, or all alike, or be no mean.
        """
        values = self.values.get(name)
        if not values:
            return None
        wanted = self.computed.get(name)
        for shares in (_shares(values), torch.tensor([each.value for each in values], dtype=torch.float64)):
            if wanted is None or math.isclose(float(shares.mean()), wanted, rel_tol=1e-4, abs_tol=1e-7):
                return shares
        return None

    def estimates(self, level: float) -> dict[str, Estimated]:
        """Return each value over all batches: a mean of batches by their rows, or what a metric
        computes. The loss is what was returned, else what was logged as ``loss``.
        """
        found: dict[str, Estimated] = {}
        for name in {**self.values, **self.computed}:
            shares = self._batches(name)
            if shares is None:
                found[name] = _without_interval(torch.tensor(self.computed[name], dtype=torch.float64))
            elif len(shares) < _LEAST_BATCHES:
                found[name] = _without_interval(shares.mean())
            else:
                found[name] = mean_interval(shares, level)
        if "" in found:
            found["loss"] = found.pop("")
        return found


def _shares(values: list[_Value]) -> Tensor:
    """Return what each batch adds to the mean over rows, ``[batches]``: as its mean would where
    batches have equally many rows.
    """
    means, rows = (torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True))
    share = rows / rows.mean()
    mean = (share * means).mean()
    return mean + share * (means - mean)


def _without_interval(value: Tensor) -> Estimated:
    unknown = torch.full_like(value, torch.nan)
    return Estimated(value, unknown, unknown, unknown)

"""Gradient noise: the variance of the gradient between rows against the squared gradient."""

from typing import Literal

import torch
from torch import Tensor

from reglab.measures.matrices import checked_rows, mean_gradients, spread_rows
from reglab.measures.measure import Measure, Measured


class GradientNoise(Measure):
    """Noise of the loss's gradient at the weights that the run is judged by, in evaluation mode.

    With the gradient ``G`` of the mean loss of all rows there could be and the covariance ``S`` of a
    single row's gradient around it:

    - ``gradient_noise/trace``: ``tr S``
    - ``gradient_noise/squared_norm``: ``|G|^2``
    - ``gradient_noise/scale``: ``tr S / |G|^2``, the batch size at which noise and gradient are alike;
      NaN where the estimate of ``|G|^2`` is not above 0, as at a minimum

    Of ``k`` batches of ``b`` rows with gradients ``g_j`` and mean ``g``, ``tr S`` is estimated by
    ``b sum |g_j - g|^2 / (k - 1)`` and ``|G|^2`` by ``|g|^2 - tr S / (k b)``: unbiased over rows that
    the weights do not depend on, and so not below 0 for certain. Their ratio is not unbiased. Training
    rows have been fitted, which makes both smaller than new rows would.

    Args:
        rows: Of the probe, evenly spread, in an order drawn once; all if it has fewer, but for what
            does not fill a batch.
        batches: At least 2; as many as there are rows where these are fewer.
        every: As for ``Measure``.

    Raises:
        ValueError: For a number outside its range.

    Source:
        McCandlish, Kaplan, Amodei et al. (2018), An empirical model of large-batch training, appendix
        A.1.
    """

    needs = frozenset({"function"})
    charts = ("gradient_noise/scale",)

    def __init__(self, rows: int = 512, batches: int = 16, every: int | Literal["end"] | None = None) -> None:
        super().__init__(every)
        self.rows = checked_rows(rows)
        if not isinstance(batches, int) or isinstance(batches, bool) or batches < 2:
            raise ValueError(f"batches={batches} must be an integer >= 2")
        self.batches = batches

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = spread_rows(of.count("train"), self.rows)
        batches = min(self.batches, len(rows))
        if batches < 2:
            return {}
        size = len(rows) // batches
        shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
        mean: Tensor | None = None
        spread = torch.zeros(())
        for number, batch in enumerate(torch.split(shuffled[: batches * size], size), 1):
            gradient = torch.cat([each.flatten(1).double() for each in mean_gradients(of, batch).values()], 1)
            if mean is None:
                mean, spread = gradient, gradient.new_zeros(len(gradient))
                continue
            offset = gradient - mean  # Welford's sums, which keep one gradient
            mean = mean + offset / number
            spread = spread + (offset * (gradient - mean)).sum(1)
        assert mean is not None
        trace = size * spread / (batches - 1)
        squared = mean.square().sum(1) - trace / (batches * size)
        return {
            "gradient_noise/trace": trace,
            "gradient_noise/squared_norm": squared,
            "gradient_noise/scale": torch.where(squared > 0, trace / squared, torch.nan),
        }

    def row_passes(self, rows: int) -> float:
        return 3.0 * min(self.rows, rows)

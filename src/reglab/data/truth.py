"""What is known about the inputs, carried over to the columns that the model sees."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reglab.data.source import Floats, Source


class Truth(NamedTuple):
    """The fields of ``DataSet`` of the same names."""

    coefficients: Tensor | None
    relevant: Tensor | None
    feature_groups: Tensor | None


def carry_truth(source: Source, scale: Floats, features: int, noise: int) -> Truth:
    """Return the truth about ``features`` prepared inputs and ``noise`` noise columns behind them.

    Coefficients are multiplied by the deviation that their input was divided by. With noise columns, inputs of which
    nothing is known count as relevant: beside columns of pure noise, that is what the data set is for.
    """
    coefficients = relevant = groups = None
    if source.coefficients is not None:
        coefficients = torch.from_numpy(np.append(source.coefficients * scale, np.zeros(noise)).astype(np.float32))
    if source.relevant is not None or noise:
        known = np.ones(features, dtype=bool) if source.relevant is None else source.relevant
        relevant = torch.from_numpy(np.append(known, np.zeros(noise, dtype=bool)))
    if source.feature_groups is not None:
        groups = torch.from_numpy(np.append(source.feature_groups, np.full(noise, -1)))
    return Truth(coefficients, relevant, groups)

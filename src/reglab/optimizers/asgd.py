"""Averaged SGD."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from reglab.optimizers.rule import Group, Number, Scale, UpdateRule


class ASGD(UpdateRule):
    """``torch.optim.ASGD``: the average that it keeps is used by nobody; the weights are those of
    SGD with a decreasing rate.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.asgd.ASGD",)

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        done = max(0.0, float(state.get("step", 0)) - 1)  # the rate that the last update had
        return Scale(float(np.float32(lr / (1 + group["lambd"] * lr * done) ** group["alpha"])))  # as it keeps it

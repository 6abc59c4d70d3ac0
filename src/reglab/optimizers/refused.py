"""Optimizers that no proximal step fits, each with its reason."""

from collections.abc import Mapping
from typing import Any, ClassVar

from reglab.core.errors import UserError
from reglab.optimizers.rule import Group, Number, Scale, UpdateRule


class Refused(UpdateRule):
    """An optimizer without an effective step of each coordinate."""

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        raise UserError(self.refused)


class Muon(Refused):
    """``torch.optim.Muon``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.Muon",)
    refused: ClassVar[str] = "it orthogonalizes the step of a whole matrix, so that no coordinate has its own"
    by_element: ClassVar[bool] = False


class Rprop(Refused):
    """``torch.optim.Rprop``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.rprop.Rprop",)
    refused: ClassVar[str] = (
        "its steps grow as long as a gradient keeps its sign, and where loss and penalty balance it keeps it for ever"
    )


class Adafactor(Refused):
    """``torch.optim.Adafactor``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.Adafactor",)
    refused: ClassVar[str] = "it scales the step of a whole matrix by that step's own size"
    by_element: ClassVar[bool] = False


class SparseAdam(Refused):
    """``torch.optim.SparseAdam``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.sparse_adam.SparseAdam",)
    refused: ClassVar[str] = "it updates only the rows that a batch has, and a penalty is one of all rows"
    by_element: ClassVar[bool] = False


class ScheduleFree(Refused):
    """Those of the package ``schedulefree``."""

    serves: ClassVar[tuple[str, ...]] = (
        "schedulefree.adamw_schedulefree.AdamWScheduleFree",
        "schedulefree.radam_schedulefree.RAdamScheduleFree",
        "schedulefree.sgd_schedulefree.SGDScheduleFree",
    )
    refused: ClassVar[str] = "the model is an average of weights, which has no exact zeros"

"""The options that every data set takes; ``conf/data/_options.yaml`` shows them to the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reglab.core.errors import UserError, nearest
from reglab.data.checks import choice, flag, number, size, whole

SPLITS = ("stratified", "random", "grouped", "time")
RESAMPLES = ("bootstrap", "disjoint")


@dataclass(frozen=True)
class Options:
    """Options of splitting, resampling, scaling, weighting and added noise, checked when made.

    Raises UserError. See ``conf/data/_options.yaml`` for what each one does.
    """

    batch_size: int = 32
    train_size: float | None = None
    label_noise: float = 0.0
    noise_columns: int = 0
    class_weight: str | Mapping[str, float] | Sequence[Sequence[Any]] | None = None
    sample_weight: str | None = None
    split: str = "stratified"
    split_seed: int = 0
    val_size: float = 0.2
    test_size: float = 0.2
    folds: int | None = None
    fold: int = 0
    group: str | None = None
    time: str | None = None
    replicas: int | None = None
    replica: int = 0
    resample: str = "bootstrap"
    standardize: bool = True

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1)
        if self.train_size is not None:
            size("train_size", self.train_size)
        number("label_noise", self.label_noise, 0, 1)
        whole("noise_columns", self.noise_columns, 0)
        self._check_class_weight()
        self._check_split()
        self._check_replicas()
        flag("standardize", self.standardize)

    @property
    def weight_of_class(self) -> dict[str, float] | None:
        """The given weights by the text of their class; None where there are none."""
        if self.class_weight is None or isinstance(self.class_weight, str):
            return None
        if isinstance(self.class_weight, Mapping):
            return {str(label): weight for label, weight in self.class_weight.items()}
        return {str(label): weight for label, weight in map(_pair, self.class_weight)}

    def _check_class_weight(self) -> None:
        given = self.weight_of_class
        if given is not None:
            for label, weight in given.items():
                number(f"class_weight.{label}", weight, 0)
        elif self.class_weight not in (None, "balanced"):
            raise UserError(
                f"data.class_weight={self.class_weight}: {nearest(str(self.class_weight), ['balanced', 'null'])} "
                "A weight for each class is written 'data.class_weight={\"CLASS\":WEIGHT,...}'"
            )

    def _check_split(self) -> None:
        choice("split", self.split, SPLITS)
        whole("split_seed", self.split_seed, 0)
        size("val_size", self.val_size)
        size("test_size", self.test_size)
        if self.folds is not None:
            whole("fold", self.fold, 0, whole("folds", self.folds, 2) - 1)
        elif self.fold != 0:
            raise UserError(f"data.fold={self.fold} chooses one of data.folds, which is not set: add data.folds=5")
        for column, split in (("group", "grouped"), ("time", "time")):
            given = getattr(self, column)
            if given is not None and self.split != split:
                raise UserError(f"data.{column}={given} needs data.split={split}, got data.split={self.split}")
            if given is None and self.split == split:
                raise UserError(f"data.split={split} needs a column: data.{column}=COLUMN")

    def _check_replicas(self) -> None:
        choice("resample", self.resample, RESAMPLES)
        if self.replicas is not None:
            whole("replica", self.replica, 0, whole("replicas", self.replicas, 2) - 1)
        elif self.replica != 0:
            raise UserError(
                f"data.replica={self.replica} chooses one of data.replicas, which is not set: add data.replicas=20"
            )
        elif self.resample != RESAMPLES[0]:
            raise UserError(
                f"data.resample={self.resample} says how data.replicas are made, which is not set: add data.replicas=20"
            )


def _pair(pair: object) -> Sequence[Any]:
    if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2:
        return pair
    raise UserError(
        f"data.class_weight holds {pair!r}, which is no pair of a class and its weight: write "
        "'data.class_weight=[[\"CLASS\",WEIGHT],...]'"
    )

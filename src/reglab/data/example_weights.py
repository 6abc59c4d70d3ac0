"""Example weights: sample weight times class weight."""

import numpy as np

from reglab.core.errors import UserError, nearest
from reglab.data.options import Options
from reglab.data.source import Floats, Integers, Source


def example_weights(source: Source, observed: Integers | None, train: Integers, options: Options) -> Floats:
    """Return the weight of every row, float64 [rows], of mean 1 over the rows ``train``.

    Args:
        observed: The class of every row as training sees it (label noise included), None where
            there are no classes. A class's weight is the given one, 1 if none is given, or,
            ``balanced``, ``rows / (classes * rows of the class)`` counted over the training rows.

    Raises:
        UserError: If the task has no classes, a class name is unknown, or all the weights are 0.

    Source:
        King & Zeng (2001), Logistic regression in rare events data.
    """
    weights = np.ones(len(source.targets)) if source.sample_weight is None else source.sample_weight
    if options.class_weight is not None:
        if observed is None:
            raise UserError(f"data.class_weight needs classes, but the task is {source.task}: set it to null")
        weights = weights * _class_weights(observed[train], source.target_names, options)[observed]
    mean = weights[train].mean()
    if mean <= 0:
        raise UserError("every training row has weight 0: check data.sample_weight and data.class_weight")
    scaled: Floats = weights / mean
    return scaled


def _class_weights(classes: Integers, names: tuple[str, ...], options: Options) -> Floats:
    if (given := options.weight_of_class) is not None:
        return _given_weights(given, names)
    counts = np.bincount(classes, minlength=len(names))
    # a class absent from training has no balanced weight.
    return len(classes) / (len(names) * counts.clip(min=1))


def _given_weights(given: dict[str, float], names: tuple[str, ...]) -> Floats:
    for label in given:
        if label not in names:
            raise UserError(f"data.class_weight names the class {label!r}, which is not there: {nearest(label, names)}")
    return np.array([float(given.get(name, 1.0)) for name in names])

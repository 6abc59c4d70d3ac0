"""Bound on the length of a proximal step under Adam."""

from collections.abc import Mapping

from torch import Tensor


def largest_move(step_size: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Return how far a proximal step may move each weight of a parameter, 0-dim; None where nothing
    bounds it.

    Adam divides by the root of its second moment: where that is tiny, a proximal step of its
    effective size would take any weight to 0 at once, however weak the penalty. Bounded by the
    double of the longest step that Adam itself can take, it has the same fixed points; see
    ``largest_step`` of the optimizer's step sizes.

    Args:
        step_size: As ``on_step`` gets it; a mapping without ``largest``, as that of SGD's steps,
            bounds nothing.
    """
    largest = getattr(step_size, "largest", None)
    return largest(name) if largest else None

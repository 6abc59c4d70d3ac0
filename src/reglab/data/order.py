"""Orders of rows, from which every split is cut."""

import numpy as np

from reglab.data.source import Floats, Integers


def stratified_order(classes: Integers, shuffled: Integers, offset: float) -> Integers:
    """Return an order of the rows whose every stretch holds the classes in proportion.

    The j-th of a class's n rows (in ``shuffled`` order) stands at ``(j + offset) / n`` of the way; rows are taken as
    they stand, ties as in ``shuffled``.

    offset: 1/2 keeps every stretch within a row or so of proportion; 0 puts one row of every class first, so that
        the first k rows hold all k classes.
    Shapes: all [rows].
    """
    place = np.empty(len(classes))
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        place[members] = (np.arange(len(members)) + offset) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def row_places(order: Integers) -> Floats:
    """Return where each row stands in ``order``: the middle of its slot, in rows."""
    places = np.empty(len(order))
    places[order] = np.arange(len(order)) + 0.5
    return places


def block_places(blocks: Integers) -> Floats:
    """Return for each row the middle of its block, in rows, when blocks lie one after the other by number.

    Rows of a block share one place, so that a cut cannot part them. Shapes: [rows].
    """
    sizes = np.bincount(blocks)
    return (np.cumsum(sizes) - sizes / 2)[blocks]

"""Synthetic token sequences, each with one token that determines its class."""

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import whole
from reglab.data.source import Source
from reglab.data.streams import stream, uniform


def tokens(*, rows: int = 2000, length: int = 32, vocabulary: int = 100, classes: int = 4, seed: int = 0) -> Source:
    """Return sequences of random tokens of equal length, ids from 1 to ``vocabulary - 1``.

    The tokens 1 to ``classes`` mark the classes: each sequence holds one of them, at a random
    place.

    Args:
        rows: Number of sequences, >= 10.
        length: Tokens of a sequence, >= 2.
        vocabulary: Number of token ids, >= classes + 2.
        classes: Number of classes, >= 2.
        seed: Seed of all draws, >= 0.

    Raises:
        UserError: Unless the vocabulary has words beside the marks.
    """
    for key, value, minimum in (("rows", rows, 10), ("length", length, 2), ("classes", classes, 2), ("seed", seed, 0)):
        whole(key, value, minimum)
    if whole("vocabulary", vocabulary, 1) < classes + 2:
        raise UserError(f"data.vocabulary={vocabulary} must be at least data.classes + 2 = {classes + 2}")
    filler = 1 + classes + (uniform(stream(seed, "tokens", "words"), rows, length) * (vocabulary - 1 - classes))
    ids = filler.astype(np.int64)
    target = (uniform(stream(seed, "tokens", "target"), rows) * classes).astype(np.int64)
    position = (uniform(stream(seed, "tokens", "place"), rows) * length).astype(np.int64)
    ids[np.arange(rows), position] = 1 + target
    return Source(
        task="binary" if classes == 2 else "classification",
        numeric=ids,
        numeric_names=tuple(f"token_{position}" for position in range(length)),
        targets=target,
        target_names=tuple(f"class_{number}" for number in range(classes)),
        shape=(length,),
        tokens=True,
    )

"""One colour per sweep block, the same in every figure, readable on light and dark."""

from collections.abc import Iterable

GREY = "#8b919a"
PALETTE = (
    "#3d7fc4",  # blue
    "#e07a26",  # orange
    "#2f9e6e",  # green
    "#9a63c9",  # violet
    "#d24d63",  # red
    "#1b9bab",  # teal
    "#b98f14",  # ochre
    "#c45a9e",  # pink
)
# A family has the same colour in every sweep, unless another member of it has taken it.
FAMILIES = {
    "l1": 0,
    "elastic_net": 5,
    "l2": 2,
    "weight_decay": 2,  # and weight_decay_fixed
    "dropout": 1,
    "mixup": 6,
    "label_smoothing": 7,
    "early_stopping": 4,
}
COCKTAIL = 3


def colours(blocks: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return block -> colour: grey without a regularizer, a colour for each regularizer family.

    Once the palette is used up colours repeat.

    Args:
        blocks: (block, regularizer) pairs.
    """
    chosen: dict[str, str] = {}
    free = list(range(len(PALETTE)))
    for block, regularizer in dict(blocks).items():
        if regularizer == "none":
            chosen[block] = GREY
            continue
        wanted = _family(regularizer)
        free = free or list(range(len(PALETTE)))
        index = wanted if wanted in free else free[0]
        free.remove(index)
        chosen[block] = PALETTE[index]
    return chosen


def _family(regularizer: str) -> int | None:
    if "+" in regularizer:
        return COCKTAIL
    names = (name for name in FAMILIES if regularizer.startswith(name))
    return FAMILIES.get(next(names, ""))

"""Which way is better, for a metric."""


def lower_is_better(key: str) -> bool:
    """Tell whether a metric such as ``val/loss`` is to be minimized; scores (accuracy, r2) are to be maximized."""
    return key.rpartition("/")[2] == "loss"

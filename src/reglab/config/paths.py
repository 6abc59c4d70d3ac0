"""Path of the built-in configuration."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Return the folder of the built-in configuration.

    The wheel's own copy, or ``conf/`` of a checkout.
    """
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "conf"

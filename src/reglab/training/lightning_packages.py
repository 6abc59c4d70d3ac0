"""Lightning's classes in either of its packages: ``pytorch_lightning`` and ``lightning.pytorch``.

The two hold the same code twice, and an object of one is no instance of the other's class.
"""

_NAMES = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}


def is_lightning(value: object, *classes: type) -> bool:
    """Tell whether ``value`` is an instance of one of these classes, or of its twin's.

    Args:
        value: Any object.
        classes: Of ``pytorch_lightning`` or ``lightning_fabric``.

    Example:
        >>> from pytorch_lightning.strategies import SingleDeviceStrategy
        >>> is_lightning(SingleDeviceStrategy("cpu"), SingleDeviceStrategy)
        True
    """
    paths = {_path(wanted) for wanted in classes}
    return any(_path(base) in paths for base in type(value).__mro__)


def _path(cls: type) -> str:
    package, _, rest = cls.__module__.partition(".")
    return f"{_NAMES.get(package, package)}.{rest}.{cls.__qualname__}"

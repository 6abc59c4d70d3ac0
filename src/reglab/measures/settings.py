"""The options of ``conf/measure``."""

from dataclasses import dataclass

from reglab.errors import UserError


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured, how often and how finely; each option is explained in ``conf/measure/default.yaml``.

    Raises UserError for a value outside its range.
    """

    every: int = 1
    probe_rows: int | None = None
    resamples: int = 400
    level: float = 0.95
    near_zero: float = 1e-3
    per_layer: bool = True
    test: bool = False
    monitor: str = "val/loss"

    def __post_init__(self) -> None:
        _integer("every", self.every, 1)
        _integer("resamples", self.resamples, 2)
        if self.probe_rows is not None:
            _integer("probe_rows", self.probe_rows, 2)
        if not (_is_number(self.level) and 0 < self.level < 1):
            raise UserError(f"measure.level={self.level} must be between 0 and 1, such as 0.95")
        if not (_is_number(self.near_zero) and 0 <= self.near_zero < 1):
            raise UserError(
                f"measure.near_zero={self.near_zero} must be >= 0 and below 1, a share of the largest weight"
            )
        if not str(self.monitor).startswith("val/"):
            raise UserError(
                f"measure.monitor={self.monitor} must be measured on the validation part, such as val/loss, "
                "val/accuracy or val/r2"
            )


def _integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"measure.{name}={value} must be an integer >= {least}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

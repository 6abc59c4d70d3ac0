"""Thinning of metric series: the budget of points sent to the store."""

from dataclasses import dataclass

_ALWAYS = ("final/", "test/")
_MINOR = ("weights/", "system/")  # most of a run's series, and seldom looked at one by one
# Of many runs a curve needs fewer points. At 290 bytes a row 64 runs of 54 series, 38 of them
# minor, take up to 37 MB.
_SHARE, _MIN_POINTS = 5, 50
_MINOR_SHARE, _MIN_POINTS_MINOR = 10, 10


@dataclass(frozen=True)
class Thinning:
    """Keep rows at multiples of ``stride``, at step ``last``, and all of ``final/``, ``test/``.

    The rule looks at the key and the step only, so that sending again, or resuming, keeps the same
    rows.

    Args:
        stride: Kept steps are multiples of it.
        last: The last step of the run, which is kept; None: unknown.
        minor: Of ``weights/`` and ``system/`` the multiples of ``stride * minor`` are kept.
    """

    stride: int = 1
    last: int | None = None
    minor: int = 1

    def keeps(self, key: str, step: int) -> bool:
        """Return whether the row of ``key`` at ``step`` is kept."""
        return step % self.stride_of(key) == 0 or step == self.last

    def stride_of(self, key: str) -> int:
        """Return of which number the kept steps of ``key`` are multiples, the last one aside."""
        if key.startswith(_ALWAYS):
            return 1
        return self.stride * self.minor if key.startswith(_MINOR) else self.stride

    def keeps_some(self, line: bytes, step: int) -> bool:
        """Return whether rows of a journal line at ``step`` may be kept, without decoding it."""
        return step % self.stride == 0 or step == self.last or b'"final/' in line or b'"test/' in line


def thinning(points: int | None, steps: int | None, every: int = 1, swept: bool = False) -> Thinning:
    """Return the rule that keeps at most ``points`` rows of a series.

    The series has rows at 0, ``every``, ``2 every``, ... ``steps``. With
    ``stride = every * ceil(ceil(steps / every) / (points - 1))`` the multiples of it, 0 and
    ``steps`` among them, are at most ``points``.

    Args:
        points: The most rows, >= 2; None: everything is kept.
        steps: The last step; None, if unknown: everything is kept.
        every: The distance between logged steps.
        swept: The run is one of a sweep; then a fifth of ``points`` is kept, at least 50, and of
            ``weights/`` and ``system/`` a tenth of that, at least 10, but never more than
            ``points``.
    """
    if points is None or steps is None:
        return Thinning()
    minor = points
    if swept:
        points = min(points, max(points // _SHARE, _MIN_POINTS))
        minor = min(points, max(points // _MINOR_SHARE, _MIN_POINTS_MINOR))
    intervals = -(-steps // every)
    stride = _stride(intervals, points)
    factor = _stride(-(-intervals // stride), minor)
    return Thinning(every * stride, steps, factor) if stride * factor > 1 else Thinning()


def _stride(intervals: int, points: int) -> int:
    return 1 if intervals < points else -(-intervals // (points - 1))

"""The budget of points: which rows of a long series go to the store."""

from dataclasses import dataclass

_ALWAYS = ("final/", "test/")
_ALWAYS_IN_JSON = tuple(f'"{name}'.encode() for name in _ALWAYS)


@dataclass(frozen=True)
class Thinning:
    """Keeps the rows whose step is a multiple of ``stride``, those at the step ``last``, and all ``final/``, ``test/``.

    The rule looks at the key and the step alone, so that sending again, or resuming, keeps the same rows.
    """

    stride: int = 1
    last: int | None = None

    def keeps(self, key: str, step: int) -> bool:
        """Return whether the row of ``key`` at ``step`` is kept."""
        return step % self.stride == 0 or step == self.last or self.always(key)

    def always(self, key: str) -> bool:
        """Return whether all rows of ``key`` are kept."""
        return key.startswith(_ALWAYS)

    def keeps_some(self, line: bytes, step: int) -> bool:
        """Return whether rows of a journal's line, all at ``step``, may be kept; it is not decoded."""
        return self.keeps("", step) or any(name in line for name in _ALWAYS_IN_JSON)


def thinning(points: int | None, steps: int | None, every: int = 1) -> Thinning:
    """Return the rule under which a series at 0, ``every``, ``2 every``, ... ``steps`` keeps at most ``points`` rows.

    ``stride = every * ceil(ceil(steps / every) / (points - 1))``, so that multiples of it, 0 and ``steps`` among them,
    are at most ``points``. points None, or steps None: everything is kept. points: >= 2.
    """
    if points is None or steps is None:
        return Thinning()
    intervals = -(-steps // every)
    if intervals < points:
        return Thinning()
    return Thinning(every * -(-intervals // (points - 1)), steps)

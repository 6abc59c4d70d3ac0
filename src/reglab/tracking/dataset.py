"""Protocol of a data set for tracking."""

from collections.abc import Mapping
from typing import Protocol


class DataSetLike(Protocol):
    """Name, digest (over all parts) and summary of a data set."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def summary(self) -> Mapping[str, str | int | float | bool]: ...

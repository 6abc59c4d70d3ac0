"""What tracking needs to know about a data set."""

from collections.abc import Mapping
from typing import Protocol


class DataSetLike(Protocol):
    """A name, a digest over everything that training, validation and testing see, and a summary for people."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def summary(self) -> Mapping[str, str | int | float | bool]: ...

"""What a config's ``measure`` node describes."""

from collections.abc import Mapping
from typing import Any

from reglab.config.instantiate import build, construct
from reglab.core.errors import UserError
from reglab.measures.measure import Measure
from reglab.measures.settings import MeasureSettings


def measure_settings(node: Mapping[str, Any]) -> MeasureSettings:
    """Return what a config's ``measure`` node describes.

    A node without any measure is one of an earlier version, and stands for the default ones.

    Args:
        node: Resolved; each mapping with a ``_target_`` is a measure.

    Raises:
        UserError: Naming the key at fault.
    """
    nodes = {name: each for name, each in node.items() if isinstance(each, Mapping) and "_target_" in each}
    settings = {name: each for name, each in node.items() if name not in nodes}
    for name, each in settings.items():
        if isinstance(each, Mapping):
            raise UserError(
                f"measure.{name} is not a measure: choose it by measure=[gap,weights,{name}], or give it a _target_"
            )
    measures = {name: build(each, Measure, f"measure.{name}") for name, each in nodes.items()}
    return construct(MeasureSettings, {**settings, "measures": measures or None}, "measure")

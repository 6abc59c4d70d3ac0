"""States of a module's torchmetrics, most of which no ``state_dict`` holds."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric


def metric_states(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the states as plain data and tensors, by the name of each metric.

    Args:
        module: A user's.
    """
    return {
        name: {
            "count": metric._update_count,
            "states": {key: _copied(getattr(metric, key)) for key in metric._defaults},
        }
        for name, metric in _metrics(module)
    }


def set_metric_states(module: nn.Module, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Set what ``metric_states`` returned.

    Args:
        module: A user's.
        states: Of a checkpoint; of metrics that the module does not have, nothing is set.
    """
    for name, metric in _metrics(module):
        if name in states:
            metric._update_count = states[name]["count"]
            metric._computed = None
            for key, value in states[name]["states"].items():
                moved = (
                    [each.to(metric.device) for each in value] if isinstance(value, list) else value.to(metric.device)
                )
                setattr(metric, key, moved)


def _metrics(module: nn.Module) -> Iterator[tuple[str, Metric]]:
    return ((name, part) for name, part in module.named_modules() if isinstance(part, Metric))


def _copied(state: Any) -> Any:
    return [each.detach().clone() for each in state] if isinstance(state, list) else _tensor(state)


def _tensor(state: Tensor) -> Tensor:
    return state.detach().clone()

"""Best epoch of each job: its number, step and metrics; and the final metrics that follow from it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reglab.core.metric_direction import lower_is_better

# Metrics of the last epoch, which those of the best one do not replace.
_LAST_EPOCH_ONLY = ("objective/", "naive_gap/", "optimizer/", "system/")


class BestEpochs:
    """Keeps each job's metrics, epoch and step where ``monitor`` was lowest or highest.

    Args:
        monitor: Name of a metric.
        jobs: How many there are.

    Attributes:
        epochs: 0 before the first ``offer``.
        metrics: Empty then, and in a run that was resumed from an older checkpoint.
    """

    def __init__(self, monitor: str, jobs: int = 1) -> None:
        self.monitor = monitor
        self.values = [math.nan] * jobs
        self.epochs = [0] * jobs
        self.steps = [0] * jobs
        self.metrics: list[dict[str, float]] = [{} for _ in range(jobs)]

    def offer(self, jobs: Sequence[int], metrics: Sequence[Mapping[str, float]], epoch: int, step: int) -> list[int]:
        """Keep what was measured of each job if it is its best so far.

        Args:
            jobs: Indices of the jobs.
            metrics: Of each of them.
            epoch: At whose end that was.
            step: Optimizer steps done then.

        Returns:
            Which of ``jobs``, by their positions, are better than before.
        """
        better = []
        for position, (job, measured) in enumerate(zip(jobs, metrics, strict=True)):
            value, best = measured[self.monitor], self.values[job]
            if math.isnan(best) or (value < best if lower_is_better(self.monitor) else value > best):
                better.append(position)
                self.values[job], self.epochs[job], self.steps[job] = value, epoch, step
                self.metrics[job] = dict(measured)
        return better

    def state_of(self, job: int) -> dict[str, Any]:
        """Return a job's state for the checkpoint of its run."""
        epoch = self.epochs[job]
        value = self.values[job] if epoch else None
        return {"best_value": value, "best_epoch": epoch, "best_metrics": dict(self.metrics[job])}

    def load_state_of(self, job: int, state: Mapping[str, Any]) -> None:
        """Load what ``state_of`` returned."""
        self.values[job] = math.nan if state["best_value"] is None else state["best_value"]
        self.epochs[job] = state["best_epoch"]
        self.metrics[job] = dict(state.get("best_metrics", {}))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all jobs."""
        names = ("values", "epochs", "steps", "metrics")
        return {name: list(getattr(self, name)) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        for name in ("values", "epochs", "steps", "metrics"):
            setattr(self, name, list(state[name]))


def final_metrics(
    last: Mapping[str, float], epoch: int, best: Mapping[str, float] | None = None, best_epoch: int = 0
) -> dict[str, float]:
    """Return the metrics of the weights that a run stands for.

    Args:
        last: Metrics of the last measured epoch.
        epoch: Its number.
        best: Metrics of the best epoch, where the run stands for that one: what was measured of
            training since then stays as it is in ``last``. Its update of the weights is left out:
            it was one from the epoch before.
        best_epoch: Its number.

    Returns:
        The metrics by name, and ``epoch``.

    Example:
        >>> last = {"val/loss": 0.9, "objective/task": 0.1}
        >>> final_metrics(last, 20, best={"val/loss": 0.5, "objective/task": 0.3}, best_epoch=8)
        {'val/loss': 0.5, 'objective/task': 0.1, 'epoch': 8.0}
    """
    if best is None:
        return dict(last) | {"epoch": float(epoch)}
    kept = {key: value for key, value in best.items() if not key.startswith(_LAST_EPOCH_ONLY)}
    final = dict(last) | kept | {"epoch": float(best_epoch)}
    return {key: value for key, value in final.items() if not key.endswith("/update")}

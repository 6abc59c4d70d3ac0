"""One call of a function that is swept: its run, from the first metric to the recorded end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reglab.analysis.formatting import compact
from reglab.analysis.per_example_file import FILE
from reglab.config.job_request import BLOCK, JOB
from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.core.metric_direction import OF_TASKS
from reglab.core.user_code import user_code
from reglab.tracking import RunTracker, TrackingSettings, open_run


@dataclass(frozen=True)
class FunctionJob:
    """A call.

    Args:
        number: In the sweep, from 0.
        values: By argument.
        seed: The last argument.
    """

    number: int
    values: Mapping[str, Any]
    seed: int

    @property
    def label(self) -> str:
        """For a terminal: ``l1=0.001 seed=0``."""
        shown = {name: compact(it) if isinstance(it, float) else it for name, it in self.values.items()}
        return " ".join(f"{name}={value}" for name, value in {**shown, "seed": self.seed}.items())


def run_function(function: Callable[..., Any], job: FunctionJob, settings: TrackingSettings, parent: RunTracker) -> str:
    """Call the function once, and record what it returns, or why it did not.

    Args:
        function: The user's.
        job: With what it is called.
        settings: Of tracking.
        parent: The sweep's run.

    Returns:
        A sentence for a terminal.

    Raises:
        KeyboardInterrupt: If the call was interrupted; its run is then KILLED.
    """
    from reglab.training.process_state import process_restored  # late: torch
    from reglab.training.seeds import seeded

    tracker = open_run(
        settings,
        name=job.label,
        folder=parent.folder / str(job.number),
        config={},
        params={**job.values, "seed": job.seed},
        tags={"reglab.kind": "job", "reglab.seed": job.seed, JOB: job.number, BLOCK: getattr(function, "__name__", "")},
        parent=parent.run_id,
    )
    try:
        with process_restored(), seeded(job.seed), user_code():
            loss = _record(tracker, function(**job.values, seed=job.seed))
    except BaseException as error:
        if _interrupted(error):
            tracker.finish("KILLED")
            raise KeyboardInterrupt from error
        message = describe_error(error)
        tracker.tag(**{"reglab.message": message})
        tracker.finish("FAILED")
        if not isinstance(error, Exception):
            raise
        return f"failed: {message}"
    tracker.finish("FINISHED")
    return f"val/loss {loss:.4g}"


def _record(tracker: RunTracker, returned: Any) -> float:
    """Record the metrics of a ``Regularize``, or metrics by name; return the validation loss."""
    metrics = returned if isinstance(returned, Mapping) else getattr(returned, "metrics", None)
    if not isinstance(metrics, Mapping) or "val/loss" not in metrics:
        raise UserError(
            "the function must return the Regularize that measured its training, or metrics by name with val/loss "
            f"among them; it returned a {type(returned).__name__}"
        )
    numbers = {name: float(value) for name, value in metrics.items()}
    if not math.isfinite(numbers["val/loss"]):
        raise UserError(f"val/loss is {numbers['val/loss']}: training diverged")
    if isinstance(returned, Mapping):
        score = next((name for name in OF_TASKS if f"val/{name}" in numbers), "loss")
        tracker.tag(**{"reglab.score": score})
    else:
        _record_callback(tracker, returned)
        for row in returned.history:
            tracker.log({key: value for key, value in row.items() if key != "epoch"}, int(row["epoch"]))
    tracker.summary(numbers)
    return numbers["val/loss"]


def _record_callback(tracker: RunTracker, callback: Any) -> None:
    """Record regularizers, score and results by example of a ``Regularize``."""
    tags = callback.run_tags()
    tracker.tag(**tags, **{BLOCK: tags["reglab.regularizer"]})
    if callback.examples is not None:
        path = Path(tracker.folder, FILE)
        callback.examples.write(path)
        tracker.artifact(path)


def _interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is among the reasons: Lightning ends a fit by SystemExit then."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False

"""Protocol of a LightningModule that is measured, recorded and saved: one job, or a pack of jobs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from reglab.core.errors import Diverged
from reglab.data import DataSet
from reglab.measures import MeasureSettings

Tensors = dict[str, Tensor]


class Trainable(Protocol):
    """What bookkeeping asks of ``Solo`` and of ``PackModule``.

    A row is a job that still trains: row 0 is the only one where a job trains alone.

    Attributes:
        interrupted: The number of the signal that asked to end after the latest step.
        failures: Jobs, by their index, whose loss stopped being finite, until they are finalized.
    """

    interrupted: int | None
    failures: dict[int, Diverged]

    @property
    def job_indices(self) -> Sequence[int]:
        """The index of the job in each row."""

    @property
    def inside_epoch(self) -> bool:
        """Whether some steps of the present epoch are still to be taken."""

    def steps_done(self) -> int:
        """Return the number of optimizer steps done."""

    def alive(self) -> list[int]:
        """Return the rows whose jobs still train."""

    def begin_measuring(self, data: Sequence[DataSet], settings: MeasureSettings, state: Any) -> None:
        """Move the measured rows to the device, and remember the weights that distances are from.

        Args:
            data: Of each job.
            settings: Of the measurement.
            state: Of a resumed measurement, or None.
        """

    def measure(self, epoch: int = 1, last: bool = True) -> tuple[Tensors, Tensors]:
        """Return what is measured of examples, the gap above all, and what else: 0-dim tensors, or
        [rows].

        Args:
            epoch: Counted from 1; 0 is the untrained model.
            last: It is the last one, as far as is known.
        """

    def measured_state(self, row: int) -> dict[str, Any]:
        """Return what measuring a row resumes from, in the form of a job that trains alone."""

    def mean_terms(self) -> Tensors:
        """Return each term's mean over the examples since the last call, and start anew."""

    def last_rate(self, row: int) -> float:
        """Return a row's learning rate in the latest step."""

    def stopped(self, metrics: Mapping[str, Tensor]) -> list[int]:
        """Return the rows that a regularizer wants to stop, given the metrics of the gap."""

    def observe(self, metrics: Mapping[str, Tensor]) -> None:
        """Move schedules that look for a plateau, given the metrics of the gap."""

    def fail(self, row: int, error: Diverged) -> None:
        """Mark a row as failed because its loss is not finite; a job that trains alone raises."""

    def drop(self, rows: Sequence[int]) -> None:
        """Train these rows no further."""

    def compact(self) -> None:
        """Free what dropped rows take, where that pays."""

    def polish(self) -> str:
        """Improve the last weights, where the trainer's settings ask for it, and say how."""

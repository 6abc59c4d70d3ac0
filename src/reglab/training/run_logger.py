"""The Lightning logger of a job: what a module logs by ``self.logger`` goes to its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from reglab.core.errors import CodeFailed
from reglab.tracking import RunTracker


class RunLogger(Logger):
    """Takes what a module logs by ``self.logger``; ``self.log`` is recorded by the recorder.

    Args:
        folder: Of the run, or another where there is none.
        tracker: Of the run; None where what is logged is dropped.

    Attributes:
        values: The last value of each name since they were taken.
    """

    def __init__(self, folder: Path, tracker: RunTracker | None = None) -> None:
        super().__init__()
        self._folder, self._tracker = folder, tracker
        self.values: dict[str, float] = {}

    @property
    def name(self) -> str:
        return "reglab"

    @property
    def version(self) -> str:
        return self._tracker.run_id if self._tracker else ""

    @property
    def save_dir(self) -> str:
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        """Where callbacks write files: the folder of the run."""
        return self.save_dir

    @property
    def experiment(self) -> "_NoExperiment":
        """What Lightning asks for as it begins, and nothing can be done with."""
        return _NoExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take the last value of each name; it is recorded at the end of the epoch."""
        self.values.update({name: float(value) for name, value in metrics.items() if name != "epoch"})

    def take(self) -> dict[str, float]:
        """Return the values, and begin anew."""
        taken, self.values = self.values, {}
        return taken

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Tag the run with plain values, as ``hparams.<name>``; its config is recorded anyway."""
        given = params if isinstance(params, Mapping) else vars(params)
        plain = {str(name): value for name, value in given.items() if isinstance(value, str | int | float | bool)}
        if plain and self._tracker:
            self._tracker.tag(**{f"hparams.{name}": value for name, value in plain.items()})


class _NoExperiment:
    """Stands for the object of another logger; the first use says what to do instead."""

    def __getattr__(self, name: str) -> NoReturn:
        raise CodeFailed(
            f"self.logger.experiment.{name} is of another of Lightning's loggers, and reglab records runs itself: use "
            "self.log or self.logger.log_metrics for numbers, and write files into the folder self.logger.save_dir"
        )

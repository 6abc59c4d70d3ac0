"""The MLflow run of a training by ``transformers.Trainer``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from reglab.regularizers import Cocktail
from reglab.tracking import TrackingSettings, open_run, reopen_run
from reglab.tracking.run_state import read_state
from reglab.training import describe
from reglab.training.fit import summary
from reglab.training.run_note import steps_note

_FOLDER = "reglab"
_UNKNOWN = dict.fromkeys(("val/loss_se", "gap/loss_low", "gap/loss_high"), math.nan)


class TrainerRun:
    """The run, in the folder ``reglab`` of the Trainer's ``output_dir``.

    A training that is resumed continues the run that it began.

    Args:
        uri: Of MLflow's store.
        experiment: Name; None for the default.
        args: ``TrainingArguments``.
        resumed: Whether training continues from a checkpoint.
        model: That is trained.
        cocktail: The regularizers.
        tags: Of the run.
        seed: Of the cocktail's draws.
    """

    def __init__(
        self,
        uri: str,
        experiment: str | None,
        args: Any,
        resumed: bool,
        model: nn.Module,
        cocktail: Cocktail,
        tags: Mapping[str, str],
        seed: int,
    ) -> None:
        folder = Path(args.output_dir) / _FOLDER
        self._cocktail = cocktail
        if resumed and read_state(folder) is not None:
            self._tracker = reopen_run(folder)
        else:
            self._tracker = open_run(
                TrackingSettings.from_config({"uri": uri, "experiment": experiment}),
                name=describe.run_name({"seed": seed, "name": args.run_name}, tags),
                folder=folder,
                config={},
                params=_params(args, model, cocktail, seed),
                tags=tags,
                strengths=describe.strengths(cocktail),
            )
        self.run_id = self._tracker.run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record a measurement.

        Args:
            metrics: By name.
            step: That it was made after.
        """
        self._tracker.log(metrics, step)

    def finish(self, metrics: Mapping[str, float], epoch: float) -> None:
        """Record the last measurement as the run's result, and end it.

        Args:
            metrics: By name; empty where nothing was measured.
            epoch: That training ended at.
        """
        final = summary({**metrics, "epoch": epoch})
        self._tracker.summary(final)
        if "gap/loss" in final:
            self._tracker.note(steps_note("of transformers.Trainer", self._cocktail, {**_UNKNOWN, **final}))
        self._tracker.finish("FINISHED")

    def give_up(self) -> None:
        """End the run of a training that an exception ended, of which no callback hears."""
        self._tracker.tag(**{"reglab.message": "Trainer.train raised before its end"})
        self._tracker.finish("FAILED")


def _params(args: Any, model: nn.Module, cocktail: Cocktail, seed: int) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": type(model).__name__,
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "lr": args.learning_rate,
        "epochs": args.num_train_epochs,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "seed": seed,
    }
    for name, member in cocktail.named_regularizers():
        params |= {f"regularizer.{name}.{key}": float(it) for key, it in member.named_buffers() if it.ndim == 0}
    return params

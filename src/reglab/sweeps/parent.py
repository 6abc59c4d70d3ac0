"""The parent run of a sweep: a new one, or an earlier one of the same jobs that goes on."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from reglab.errors import UserError
from reglab.sweeps import ledger
from reglab.sweeps.blocks import Job
from reglab.sweeps.compose import Composer
from reglab.sweeps.events import Ended
from reglab.sweeps.lock import held
from reglab.tracking import RunTracker, TrackingSettings, open_sweep, reopen_run

_BY_PLACE, _BY_JOB = "${hydra.job.num}", "${sweep.job}"


@dataclass(frozen=True)
class Begun:
    """A sweep that has its run. done: how those jobs ended that are not to be run."""

    parent: RunTracker
    done: Mapping[int, Ended] = field(default_factory=dict)


@contextmanager
def begin(
    jobs: Sequence[Job], arguments: Sequence[str], config: DictConfig, composer: Composer, settings: TrackingSettings
) -> Iterator[Begun]:
    """Open the run of a sweep, or go on with the earlier one of the same jobs; nobody else can run it meanwhile.

    Where it goes on, ``config`` is changed so that launchers put jobs where that sweep has them. Without MLflow, or
    with ``sweep.again``, it is a new one. Raises UserError if another process runs the sweep.
    """
    anew = starts_anew(config)
    tags: dict[str, Any] = {}
    earlier, found = None, {}
    new = Path(str(config.hydra.sweep.dir)).absolute()
    if settings.backend == "mlflow":
        from reglab.tracking.mlflow_ledger import FINGERPRINT, FOLDER  # late: mlflow

        found = ledger.contents(jobs, composer)
        mark = ledger.sweep_fingerprint(jobs, found)
        tags = {FINGERPRINT: mark, FOLDER: new}
        earlier = None if anew else ledger.earlier_folder(settings, mark)
    folder = earlier or new
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        if earlier is None:
            OmegaConf.save(config, folder / "multirun.yaml")
            yield Begun(_open(settings, jobs, arguments, config, folder, tags))
            return
        done = ledger.settled(settings.uri, folder, found)
        print(ledger.progress(folder, len(jobs), done), file=sys.stderr)
        _stay_in(folder, config)
        composer.bases.clear()  # composed before, with other folders
        yield Begun(reopen_run(folder), done)


def starts_anew(config: DictConfig) -> bool:
    """Return ``sweep.again``: run everything, whatever ran before. Raises UserError unless it is true or false."""
    again = OmegaConf.select(config, "sweep.again", default=False)
    if not isinstance(again, bool):
        raise UserError(f"sweep.again must be true or false, got {again!r}")
    return again


def _open(
    settings: TrackingSettings,
    jobs: Sequence[Job],
    arguments: Sequence[str],
    config: DictConfig,
    folder: Path,
    tags: Mapping[str, Any],
) -> RunTracker:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    blocks = list(dict.fromkeys(job.block for job in jobs))
    experiment = OmegaConf.select(config, "hydra.runtime.choices.experiment")
    return open_sweep(
        settings,
        name=str(config.get("name") or experiment or f"sweep of {', '.join(blocks)}"[:120]),
        folder=folder,
        config=plain,
        params=plain,
        tags={
            "reglab.command": shlex.join(sys.argv),
            "reglab.overrides": shlex.join(arguments),
            "reglab.jobs": len(jobs),
            **tags,
        },
    )


def _stay_in(folder: Path, config: DictConfig) -> None:
    """Give the jobs their folders in the sweep's own, under their numbers in it: launchers number what they get."""
    plain: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    with read_write(config.hydra), open_dict(config.hydra):
        changes = {"hydra.sweep.dir": str(folder)}
        if plain["subdir"] == _BY_PLACE:
            changes["hydra.sweep.subdir"] = _BY_JOB
        for key, value in changes.items():
            OmegaConf.update(config, key, value)
        # A job's config is composed anew, from these.
        config.hydra.overrides.hydra.extend(
            [f"{key}={QuotedString(value, Quote.single).with_quotes()}" for key, value in changes.items()]
        )

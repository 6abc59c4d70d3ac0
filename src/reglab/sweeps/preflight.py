"""Compose every job of a sweep before any starts: a typo costs seconds, not the night."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from reglab.errors import UserError
from reglab.explain import explain
from reglab.sweeps.blocks import Job
from reglab.sweeps.compose import Composer, hydra_config

_SHOWN = 6  # job numbers named in a message


def check(jobs: Sequence[Job], composer: Composer, master: DictConfig, options: Mapping[str, list[str]]) -> None:
    """Raise one UserError that tells everything wrong with the jobs' configs, if anything is.

    A job's config must compose, have no missing value (``???``), resolve, and train on one device.
    """
    wrong: dict[str, list[Job]] = {}
    with hydra_config(master):
        for job in jobs:
            message = _fault(job, composer, options)
            if message is not None:
                wrong.setdefault(message, []).append(job)
    if wrong:
        count = len({job.number for faulty in wrong.values() for job in faulty})
        which = (
            "the job cannot run" if len(jobs) == 1 else f"{count} of {len(jobs)} jobs cannot run, so none was started"
        )
        raise UserError("\n  ".join([f"{which}:", *(_line(message, faulty) for message, faulty in wrong.items())]))


def _fault(job: Job, composer: Composer, options: Mapping[str, list[str]]) -> str | None:
    try:
        config = composer.compose(job.overrides)
        for key in config:
            if key not in ("hydra", "sweep") and OmegaConf.is_config(config._get_node(key)):
                OmegaConf.to_container(config[key], resolve=True, throw_on_missing=True)
        _check_devices(config)
    except Exception as error:
        message = explain(error, options)
        if message is None:
            raise
        return message
    return None


def _check_devices(config: DictConfig) -> None:
    """Refuse several devices: Lightning starts each further rank by the command line, so the whole sweep again."""
    devices = OmegaConf.select(config, "trainer.devices")
    one = str(devices) == "1" or (OmegaConf.is_list(devices) and len(devices) == 1)
    if devices is not None and not one:
        raise UserError(
            f"trainer.devices={devices}: a job of a sweep trains on one device; start jobs on several one by one"
        )


def _line(message: str, faulty: Sequence[Job]) -> str:
    numbers = ", ".join(str(job.number) for job in faulty[:_SHOWN]) + (", ..." if len(faulty) > _SHOWN else "")
    name = "job" if len(faulty) == 1 else "jobs"
    return f"{message}\n      ({name} {numbers}: {' '.join(faulty[0].overrides)})"

"""Check the configs of all jobs of a sweep before any starts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reglab.config.error_messages import explain
from reglab.config.hydra_context import hydra_config
from reglab.config.used_keys import check_used, root
from reglab.core.errors import UserError
from reglab.launchers.compose import Composer
from reglab.launchers.devices import devices_needed, visible_gpus
from reglab.launchers.request_launcher import Capabilities
from reglab.sweeps.blocks import Job
from reglab.tracking import TrackingSettings
from reglab.tracking.store_gate import check_store

_SHOWN = 6  # job numbers in a message


def check_configs(
    jobs: Sequence[Job], composer: Composer, master: DictConfig, options: Mapping[str, list[str]], can: Capabilities
) -> None:
    """Check that each job's config composes, resolves, and asks for devices that it can have.

    Args:
        jobs: Of the sweep.
        composer: Of the sweep.
        master: The config of the whole sweep.
        options: Options of every config group, for suggestions.
        can: Of the launcher.

    Raises:
        UserError: Everything that is wrong, in one message.
    """
    check_devices: Callable[[Mapping[str, Any]], object] = _check_one_device
    if can.assigns_devices:
        gpus = visible_gpus(OmegaConf.select(master, "hydra.launcher.gpus"))
        check_devices = partial(devices_needed, gpus=gpus)
    wrong: dict[str, list[Job]] = {}
    checked: set[tuple[str, ...]] = set()
    with hydra_config(master):
        for job in jobs:
            message = _fault(job, composer, options, check_devices, checked)
            if message is not None:
                wrong.setdefault(message, []).append(job)
    if wrong:
        raise UserError(format_faults(wrong, len(jobs)))


def format_faults(wrong: Mapping[str, Sequence[Job]], jobs: int) -> str:
    """Return the message that tells which jobs cannot run, and why.

    Args:
        wrong: Fault -> the jobs that have it.
        jobs: How many jobs the sweep has.
    """
    count = len({job.number for faulty in wrong.values() for job in faulty})
    which = "the job cannot run" if jobs == 1 else f"{count} of {jobs} jobs cannot run, so none was started"
    return "\n  ".join([f"{which}:", *(_line(message, faulty) for message, faulty in wrong.items())])


def _fault(
    job: Job,
    composer: Composer,
    options: Mapping[str, list[str]],
    check_devices: Callable[[Mapping[str, Any]], object],
    checked: set[tuple[str, ...]],
) -> str | None:
    try:
        resolved = composer.resolved(job.overrides)
        _check_used(job, composer, checked)
        check_devices(resolved.get("trainer") or {})
        settings = TrackingSettings.from_config(resolved.get("tracking") or {})
        if settings.backend == "mlflow":  # a block may name another store than the sweep's
            check_store(settings.uri, Path.cwd(), "tracking.uri")
    except Exception as error:
        message = explain(error, options)
        if message is None:
            raise
        return message
    return None


def _check_used(job: Job, composer: Composer, checked: set[tuple[str, ...]]) -> None:
    """Refuse keys that nothing reads, beyond those of the whole sweep's config.

    Args:
        job: Of the sweep.
        composer: Of the sweep.
        checked: What brought new keys in the jobs before: files, and keys of the root.
    """
    added = sorted({root(override) for override in job.overrides} - set(map(str, composer.master)))
    key = (*composer.loading(job.overrides), *added)
    if key and key not in checked:
        check_used(composer.compose(job.overrides), list(composer.master))
        checked.add(key)


def _check_one_device(trainer: Mapping[str, Any]) -> None:
    """Refuse several devices: Lightning would start the whole sweep again for each rank."""
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes", 1)
    one = str(devices) == "1" or (isinstance(devices, list) and len(devices) == 1)
    if devices is not None and not one:
        raise UserError(
            f"trainer.devices={devices}: jobs of a sweep train on one device each. Use hydra/launcher=process, or "
            "start such jobs one by one"
        )
    if nodes != 1:
        raise UserError(
            f"trainer.num_nodes={nodes}: a job of a sweep trains on one machine; start such jobs one by one"
        )


def _line(message: str, faulty: Sequence[Job]) -> str:
    numbers = ", ".join(str(job.number) for job in faulty[:_SHOWN]) + (", ..." if len(faulty) > _SHOWN else "")
    name = "job" if len(faulty) == 1 else "jobs"
    return f"{message}\n      ({name} {numbers}: {' '.join(faulty[0].overrides)})"

"""``reglab resume``: resume an interrupted run or sweep, or extend a finished run."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from reglab.cli.configured_store import check_configured_store
from reglab.cli.import_path import trust_given
from reglab.cli.questions import asker
from reglab.cli.sweep_command import SWEEP, read_command
from reglab.config.fingerprint import REMOVED_KEYS
from reglab.config.job_request import JobRequest, from_tags, take_recorded
from reglab.config.schedule_length import ends_with_run
from reglab.config.trainer_table import REFUSED
from reglab.config.used_keys import GROUPS
from reglab.config.validate import check_config
from reglab.config.yaml_file import read_mapping
from reglab.core import secrets, signals
from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.processes import rank_environment
from reglab.tracking.environment import follow
from reglab.tracking.folder import CREATED, read_identity, shell_path
from reglab.tracking.folder_gate import check_sweep_folder
from reglab.tracking.pack_manifest import MANIFEST, read
from reglab.tracking.run_start import read_start
from reglab.tracking.run_state import WORKING_FOLDER, RunState, read_state
from reglab.tracking.settings import sqlite_path
from reglab.tracking.store_gate import asking, check_store

_CHANGEABLE = (
    *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.shards", "trainer.checkpoint_seconds", "trust"),
)
_EPOCHS = "trainer.max_epochs"
# What of a sweep may change.
_SWEEP_CHANGEABLE = ("hydra.launcher.compile", "hydra.launcher.compile_seconds")


def resume(arguments: Sequence[str]) -> int:
    """Run ``reglab resume`` and return its exit code, that of ``reglab train``.

    Raises:
        UserError: Where there is nothing to resume.
    """
    from reglab.cli.report_dashboard import given_uri, reading_parser

    parser = reading_parser("resume", "Resume a run or sweep as if it had never stopped.")
    parser.add_argument("run", help="the folder, id or name of a run or sweep")
    parser.add_argument("--here", action="store_true", help="its working folder was moved to the current folder")
    parser.add_argument("overrides", nargs="*", default=[], help=f"what may change: {', '.join(_CHANGEABLE)}")
    given = parser.parse_intermixed_args(list(arguments))
    from reglab.tracking import find_folder

    with asking(asker() if rank_environment.process_rank().first else None):
        folder = find_folder(given_uri(given.uri), given.run)
        sweep = (folder / SWEEP).is_file()
        _check_store(check_sweep_folder(folder) if sweep else folder, given.here)
        trust_given(given.overrides)
        resume_it = _resume_sweep if sweep else _resume_run
        return resume_it(folder, given.overrides, given.here)


def _check_store(folder: Path, here: bool) -> None:
    """Check that the user named the run's store, after giving it its new path where it was moved.

    Raises:
        UserError: The store is another's, or the working folder was moved and ``here`` is missing.
    """
    uri = read_identity(folder).uri
    path = sqlite_path(uri or "")
    lost = path is not None and not path.exists()
    if (here or lost) and (state := read_state(folder)) is not None:
        _check_working_folder(state, here)
        uri = read_identity(folder).uri
    if uri is not None:
        check_store(uri, folder)


def _resume_run(folder: Path, overrides: Sequence[str], here: bool) -> int:
    state = read_state(folder)
    config = _recorded(folder)
    if state is None or config is None:
        raise UserError(
            f"the run in {folder} cannot be resumed: it was made in Python or has recorded nothing yet; run it again"
        )
    secrets.learn(config)
    check_configured_store(config, folder)
    request = _request(config, state)
    before = OmegaConf.select(config, _EPOCHS) or 0
    changes = _changes(overrides)
    steps = OmegaConf.select(config, "trainer.max_steps")
    steps = None if steps == -1 else steps  # as Lightning says that there is no limit
    if steps is not None and _EPOCHS in changes:
        raise UserError(f"the run ends after trainer.max_steps={steps} and cannot be extended: train a new one")
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    epochs = before if steps is not None else OmegaConf.select(config, _EPOCHS)
    if not before and steps is None:
        raise UserError(
            f"{folder / 'config.yaml'} is damaged: it does not say {_EPOCHS}. Put it back from a copy, or train a new "
            "run"
        )
    if type(epochs) is not int or type(before) is not int:
        raise UserError(f"{_EPOCHS}={epochs}: give a whole number of epochs")
    if epochs < before:
        raise UserError(f"{_EPOCHS}={epochs}: the run has {before}: give a larger number")
    if (done := _nothing_to_do(state, epochs > before)) is not None:
        if rank_environment.process_rank().first:
            print(done)
        return 0
    if epochs > before:
        _check_schedule(config, before)
    _check_working_folder(state, here)
    from reglab.cli.single_run import resume_run  # late: rich

    with signals.handle_signals():
        return resume_run(config, state, request)


def _request(config: DictConfig, state: RunState) -> JobRequest | None:
    """Return what a sweep asked of the run's job, and remove from the config what older versions
    recorded of it.
    """
    try:
        recorded = take_recorded(config)
        return from_tags(state.tags) or recorded
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"the run in {state.folder} cannot be resumed: its record is damaged ({error!r}); run it again"
        ) from error


def _nothing_to_do(state: RunState, extend: bool) -> str | None:
    """Return why there is nothing to do, if so.

    Raises UserError where resuming would only repeat or mislead.
    """
    folder = state.folder
    if state.diverged:
        raise UserError(
            f"the run in {folder} diverged, and resuming it would only repeat that: {inline(state.message)}"
        )
    if state.status != "FINISHED":
        if pack := _pack_of(folder):
            raise UserError(
                f"the run in {folder} was trained in a pack: resume the whole pack by reglab resume {shell_path(pack)}"
            )
        return None
    if not extend:
        return f"The run in {folder} is finished. To train it longer: reglab resume {shell_path(folder)} {_EPOCHS}=..."
    return None


def _pack_of(folder: Path) -> Path | None:
    """Return the sweep folder of an unfinished run's pack, None where it trains alone."""
    for path in folder.parent.glob(f"*/{MANIFEST}"):
        manifest = read(path.parent)
        if manifest is not None and str(folder) in manifest.folders:
            return folder.parent
    return None


def _check_schedule(config: DictConfig, epochs: int) -> None:
    schedule: Any = OmegaConf.select(config, "scheduler") or {}
    if ends_with_run(schedule):
        raise UserError(
            f"the learning-rate schedule of this run ends after its {epochs} epochs, so that it cannot be extended: "
            "start a new run by reglab train"
        )


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    changes = {}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(f"{' '.join(overrides)}: give what is to change as {_EPOCHS}=200") from error
    for override in parsed:
        key = override.key_or_group
        if key not in _CHANGEABLE:
            raise UserError(
                f"{override.input_line}: a resumed run keeps its configuration, except {', '.join(_CHANGEABLE)}"
            )
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: give one value")
        changes[key] = override.value()
    return changes


def _recorded(folder: Path) -> DictConfig | None:
    try:
        config = read_mapping(folder / "config.yaml")
    except FileNotFoundError:
        return None
    config.pop("hydra", None)
    config.trust = []  # given by the user, not by a file
    check_config(config)
    if wrong := [key for key in GROUPS if key in config and not isinstance(config[key], DictConfig)]:
        raise UserError(f"{folder / 'config.yaml'} is not the configuration of a run: {wrong[0]} is no mapping")
    for key in REMOVED_KEYS:
        (config.get("measure") or {}).pop(key, None)
    for key in REFUSED:  # earlier versions handed them to Lightning, where they had no effect
        (config.get("trainer") or {}).pop(key, None)
    return config


def _check_working_folder(state: RunState, here: bool) -> None:
    """Raise UserError unless this is the run's working folder.

    The folder is not entered automatically: the run may be another user's, and Python and Hydra run
    code in such a folder.
    """
    started_in = Path(state.tags.get(WORKING_FOLDER, Path.cwd()))
    if started_in.resolve() != Path.cwd().resolve() and not here:
        raise UserError(
            f"the run in {state.folder} was started in {started_in}, and its relative paths start there. Go there "
            f"first: cd {shlex.quote(str(started_in))}; or, if all of it was moved here, add --here"
        )
    if here:
        from reglab.tracking.admin.move import adopt

        adopt(state.folder, started_in, Path.cwd())


def _resume_sweep(folder: Path, overrides: Sequence[str], here: bool) -> int:
    state = read_state(folder)
    if state is None:
        raise UserError(f"the sweep in {folder} has recorded nothing yet: run its command again")
    changes = [override for override in overrides if override.partition("=")[0] not in ("trust", *_SWEEP_CHANGEABLE)]
    if changes:
        raise UserError(
            f"{changes[0]}: a resumed sweep keeps its configuration, except {' and '.join(_SWEEP_CHANGEABLE)}. To "
            f"extend one of its finished runs: reglab resume RUN {_EPOCHS}=..."
        )
    _check_working_folder(state, here)
    sweep = read_command(folder / SWEEP)
    identity, created = read_identity(folder), folder / CREATED
    follow(identity.uri, read_start(folder, CREATED).experiment if created.is_file() else None)
    from reglab.cli.train import resume_sweep  # late: Hydra's plugins

    return resume_sweep(folder, sweep.overrides(overrides), sweep.config_name, sweep.config_dir)

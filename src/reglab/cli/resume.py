"""``reglab resume``: resume an interrupted run or sweep, or extend a finished run."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from reglab.cli.import_path import add_working_folder
from reglab.config.fingerprint import REMOVED_KEYS
from reglab.config.job_request import from_tags, take_recorded
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.processes import rank_environment
from reglab.tracking.folder import shell_path
from reglab.tracking.pack_manifest import MANIFEST, read
from reglab.tracking.run_state import WORKING_FOLDER, RunState, read_state

_CHANGEABLE = (
    *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.shards", "trainer.checkpoint_seconds", "trust"),
)
_EPOCHS = "trainer.max_epochs"
_SWEEP = "multirun.yaml"
_HYDRA_KEYS = ("hydra.launcher", "hydra.sweep", "hydra.mode")  # Hydra's keys that a file may set
# What of a sweep may change.
_SWEEP_CHANGEABLE = ("hydra.launcher.compile", "hydra.launcher.compile_seconds")
# Trust is given again by the user, not by a file.
_DROPPED = ("sweep.again", "trust")


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
    from reglab.tracking.folder import read_identity
    from reglab.tracking.settings import check_named

    folder = find_folder(given_uri(given.uri), given.run)
    check_named(str(read_identity(folder).uri), given.uri)
    if (folder / _SWEEP).is_file():
        return _resume_sweep(folder, given.overrides, given.here)
    return _resume_run(folder, given.overrides, given.here)


def _resume_run(folder: Path, overrides: Sequence[str], here: bool) -> int:
    state = read_state(folder)
    config = _recorded(folder)
    if state is None or config is None:
        raise UserError(
            f"the run in {folder} cannot be resumed: it was made in Python or has recorded nothing yet; run it again"
        )
    recorded = take_recorded(config)
    before = int(OmegaConf.select(config, _EPOCHS) or 0)
    changes = _changes(overrides)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    epochs = OmegaConf.select(config, _EPOCHS)
    if type(epochs) is not int:
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
    add_working_folder()
    from reglab.cli.single_run import resume_run  # late: rich

    with signals.handle_signals():
        return resume_run(config, state, from_tags(state.tags) or recorded)


def _nothing_to_do(state: RunState, extend: bool) -> str | None:
    """Return why there is nothing to do, if so.

    Raises UserError where resuming would only repeat or mislead.
    """
    folder = state.folder
    if state.diverged:
        raise UserError(f"the run in {folder} diverged, and resuming it would only repeat that: {state.message}")
    if state.status != "FINISHED":
        if pack := _pack_of(folder):
            raise UserError(f"the run in {folder} was trained in a pack: resume the whole pack by reglab resume {pack}")
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
    if str(schedule.get("_target_", "")).endswith("CosineAnnealingLR") and "T_max" not in schedule:
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
        config = OmegaConf.load(folder / "config.yaml")
    except FileNotFoundError:
        return None
    if not isinstance(config, DictConfig):
        raise UserError(f"{folder / 'config.yaml'} is not the configuration of a run")
    config.trust = []  # given by the user, not by a file
    for key in REMOVED_KEYS:
        (config.get("measure") or {}).pop(key, None)
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
    # Secrets stay as written.
    recorded: Any = OmegaConf.to_container(OmegaConf.load(folder / _SWEEP), resolve=False)
    hydra = recorded["hydra"]
    for each in hydra["overrides"]["hydra"]:
        if not any(_key(each) == key or _key(each).startswith(f"{key}.") for key in _HYDRA_KEYS):
            raise UserError(f"the sweep was started with {each}, which a file may not set: run its command again")
    dropped = [*_DROPPED, *(f"measure.{key}" for key in REMOVED_KEYS)]
    task_overrides = [each for each in hydra["overrides"]["task"] if _key(each) not in dropped]
    hydra_overrides = [each for each in hydra["overrides"]["hydra"] if _key(each) not in map(_key, overrides)]
    arguments = ["-m", *hydra_overrides, *task_overrides, *overrides]
    if hydra["job"]["config_name"] not in (None, "train"):
        arguments = ["--config-name", hydra["job"]["config_name"], *arguments]
    for source in hydra["runtime"]["config_sources"]:
        if source["provider"] == "command-line":
            if not Path(source["path"]).resolve().is_relative_to(Path.cwd()):
                raise UserError(f"the sweep was started with --config-dir {source['path']}: run its command again")
            arguments = ["--config-dir", source["path"], *arguments]
    from reglab.cli.train import train

    return train(arguments, folder)


def _key(override: str) -> str:
    """Return which key or group an override is about, however it is written."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")

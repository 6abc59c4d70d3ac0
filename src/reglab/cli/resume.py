"""``reglab resume``: go on with a run or a sweep that ended before it was done, or extend a run that finished."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from reglab.config.fingerprint import GIVEN_UP
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.processes import rank_environment
from reglab.tracking import run_state
from reglab.tracking.folder import typed
from reglab.tracking.pack_manifest import MANIFEST, read
from reglab.tracking.run_state import Told

_CHANGED = (
    *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.shards", "trainer.checkpoint_seconds", "trust"),
)
_EPOCHS = "trainer.max_epochs"
_SWEEP = "multirun.yaml"
_OF_HYDRA = ("hydra.launcher", "hydra.sweep", "hydra.mode")  # what of Hydra's own a file may say
_COMPILING = ("hydra.launcher.compile", "hydra.launcher.compile_seconds")  # what of a sweep may change
_NOT_AGAIN = ("sweep.again", "sweep.resume", "trust")  # what is trusted is told anew, not by a file


def resume(words: Sequence[str]) -> int:
    """Run ``reglab resume`` with these words and return the exit code, that of ``reglab train``.

    Raises UserError where there is nothing to go on with.
    """
    from reglab.cli.report_dashboard import given_uri, reading_parser

    arguments = reading_parser("resume", "Go on with a run or sweep as if it had never stopped.")
    arguments.add_argument("run", help="the folder, id or name of a run or sweep")
    arguments.add_argument("--here", action="store_true", help="its working folder was moved to the present one")
    arguments.add_argument("overrides", nargs="*", default=[], help=f"what may change: {', '.join(_CHANGED)}")
    given = arguments.parse_intermixed_args(list(words))
    from reglab.tracking import find_folder
    from reglab.tracking.folder import read_identity
    from reglab.tracking.settings import check_named

    folder = find_folder(given_uri(given.uri), given.run)
    check_named(str(read_identity(folder).uri), given.uri)
    if (folder / _SWEEP).is_file():
        return _resume_sweep(folder, given.overrides, given.here)
    return _resume_run(folder, given.overrides, given.here)


def _resume_run(folder: Path, overrides: Sequence[str], here: bool) -> int:
    found = run_state.told(folder)
    config = _recorded(folder)
    if found is None or config is None:
        raise UserError(
            f"the run in {folder} cannot go on: it was made in Python or has recorded nothing yet; run it again"
        )
    before = int(OmegaConf.select(config, _EPOCHS) or 0)
    changes = _changes(overrides)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    epochs = OmegaConf.select(config, _EPOCHS)
    if type(epochs) is not int:
        raise UserError(f"{_EPOCHS}={epochs}: give a whole number of epochs")
    if epochs < before:
        raise UserError(f"{_EPOCHS}={epochs}: the run has {before}, and can only be given more")
    if (done := _over(folder, found, epochs > before)) is not None:
        if rank_environment.process_rank().first:
            print(done)
        return 0
    if epochs > before:
        _check_schedule(config, before)
    _check_place(found, folder, here)
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.append(os.getcwd())  # noqa: PTH109 - the user's own package lies here
    from reglab.cli.single_run import go_on_with  # late: rich

    with signals.listening():
        return go_on_with(config, folder)


def _over(folder: Path, found: Told, longer: bool) -> str | None:
    """Return why there is nothing to do, if so. Raises UserError where going on would only repeat or mislead."""
    if found.diverged:
        raise UserError(
            f"the run in {folder} diverged, and going on would only repeat that: {found.tags.get('reglab.message', '')}"
        )
    if found.status != "FINISHED":
        if pack := _pack_of(folder):
            raise UserError(
                f"the run in {folder} was trained together with others: go on with all of them, reglab resume {pack}"
            )
        return None
    if not longer:
        return f"The run in {folder} is finished. To train it longer: reglab resume {typed(folder)} {_EPOCHS}=..."
    return None


def _pack_of(folder: Path) -> Path | None:
    """Return the folder of the sweep that holds the pack of an unfinished run, None where it trains alone."""
    for path in folder.parent.glob(f"*/{MANIFEST}"):
        found = read(path.parent)
        if found is not None and str(folder) in found.folders:
            return folder.parent
    return None


def _check_schedule(config: DictConfig, epochs: int) -> None:
    schedule: Any = OmegaConf.select(config, "scheduler") or {}
    if str(schedule.get("_target_", "")).endswith("CosineAnnealingLR") and "T_max" not in schedule:
        raise UserError(
            f"the schedule of this run is stretched over its {epochs} epochs, and ended with them: a longer one is "
            "another training. Start it anew by reglab train"
        )


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    changes = {}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(f"{' '.join(overrides)}: give what is to change as {_EPOCHS}=200") from error
    for override in parsed:
        key = override.key_or_group
        if key not in _CHANGED:
            raise UserError(
                f"{override.input_line}: a run that goes on keeps its configuration, but for {', '.join(_CHANGED)}"
            )
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: a run goes on with one value")
        changes[key] = override.value()
    return changes


def _recorded(folder: Path) -> DictConfig | None:
    try:
        config = OmegaConf.load(folder / "config.yaml")
    except FileNotFoundError:
        return None
    if not isinstance(config, DictConfig):
        raise UserError(f"{folder / 'config.yaml'} is not the configuration of a run")
    config.trust = []  # what the user trusts, not what stands in a file
    for key in GIVEN_UP:
        (config.get("measure") or {}).pop(key, None)
    return config


def _check_place(found: Told, folder: Path, here: bool) -> None:
    """Raise UserError unless this is the folder that the run's relative paths, and the user's packages, count from.

    It is not gone to by itself: the run may be somebody else's, and Python and Hydra run what lies in such a folder.
    """
    place = Path(found.tags.get(run_state.PLACE, Path.cwd()))
    if place.resolve() != Path.cwd().resolve() and not here:
        raise UserError(
            f"the run in {folder} was started in {place}, where its relative paths count from. Go there first: cd "
            f"{shlex.quote(str(place))}; or, if all of it was moved here, add --here"
        )


def _resume_sweep(folder: Path, overrides: Sequence[str], here: bool) -> int:
    found = run_state.told(folder)
    if found is None:
        raise UserError(f"the sweep in {folder} has recorded nothing yet: give its command again")
    changes = [override for override in overrides if override.partition("=")[0] not in ("trust", *_COMPILING)]
    if changes:
        raise UserError(
            f"{changes[0]}: a sweep that goes on keeps its configuration, but for {' and '.join(_COMPILING)}. Its "
            f"runs, once finished, can be extended one by one: reglab resume RUN {_EPOCHS}=..."
        )
    _check_place(found, folder, here)
    recorded: Any = OmegaConf.to_container(OmegaConf.load(folder / _SWEEP), resolve=False)  # secrets stay as written
    hydra = recorded["hydra"]
    for each in hydra["overrides"]["hydra"]:
        if not any(_key(each) == own or _key(each).startswith(f"{own}.") for own in _OF_HYDRA):
            raise UserError(f"the sweep was started with {each}, which no file may say: give its command again")
    gone = [*_NOT_AGAIN, *(f"measure.{key}" for key in GIVEN_UP)]
    given = [each for each in hydra["overrides"]["task"] if _key(each) not in gone]
    own = [each for each in hydra["overrides"]["hydra"] if _key(each) not in map(_key, overrides)]
    words = ["-m", *own, *given, *overrides, f"sweep.resume={_quoted(str(folder))}"]
    if hydra["job"]["config_name"] not in (None, "train"):
        words = ["--config-name", hydra["job"]["config_name"], *words]
    for source in hydra["runtime"]["config_sources"]:
        if source["provider"] == "command-line":
            if not Path(source["path"]).resolve().is_relative_to(Path.cwd()):
                raise UserError(f"the sweep was started with --config-dir {source['path']}: give its command again")
            words = ["--config-dir", source["path"], *words]
    from reglab.cli.train import train

    return train(words)


def _key(override: str) -> str:
    """Return which key or group an override is about, however it is written."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text, Quote.single).with_quotes())

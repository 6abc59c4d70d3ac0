"""A run as a W&B run: offline in its folder, or sent where WANDB_MODE says so."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.core.errors import UserError, nearest
from reglab.tracking.described_run import described_run, rows_by_step

if TYPE_CHECKING:
    from reglab.tracking.full_series import Curve

_SENDING = ("online", "run", "shared")
_MODES = (*_SENDING, "offline", "dryrun", "disabled")
_LONGEST_NAME = 128
_FORBIDDEN = str.maketrans(dict.fromkeys("/\\#?%:", "-"))  # in the name of a project
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing goes out that the user did not ask for


def check_wandb() -> None:
    """Raise UserError where the environment asks W&B for what it cannot do."""
    mode = os.environ.get("WANDB_MODE")
    if mode is None:
        return
    if mode not in _MODES:
        raise UserError(f"WANDB_MODE={mode}: there is no such mode; {nearest(mode, _MODES)}")
    if mode in _SENDING and not _is_logged_in():
        raise UserError(
            f"WANDB_MODE={mode}, but nobody is logged in at W&B: wandb login; or WANDB_MODE=offline, later wandb sync"
        )


def write_wandb(folder: Path, target: Path, curves: Mapping[str, "Curve"], status: str) -> None:
    """Write the run in ``folder`` as a W&B run; the one of an earlier end is replaced.

    Args:
        folder: Of the run.
        target: The folder that gets the W&B run.
        curves: All metric rows by key.
        status: How the run ended.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return
    import wandb

    run, rows = described_run(folder), rows_by_step(curves)
    unfinished = target.with_name(f"{target.name}.part")
    _remove(unfinished)
    unfinished.mkdir()
    opened = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or run.project.translate(_FORBIDDEN)[:_LONGEST_NAME],
        id=run.run_id,
        name=run.name,
        group=run.group,
        config=dict(run.config),
        dir=str(unfinished),
        settings=wandb.Settings(**_settings()),
    )
    for step, timestamp, metrics in rows:
        opened.log({**metrics, "_timestamp": timestamp / 1000}, step=step)
    opened.finish(exit_code=0 if status == "FINISHED" else 1)
    _remove(target)
    (unfinished / "wandb").rename(target)
    _remove(unfinished)


def _settings() -> dict[str, Any]:
    return {
        # Sent only where the environment says so: the folder of a run may be from somebody else.
        "mode": os.environ.get("WANDB_MODE", "offline"),
        "reinit": "create_new",  # beside a run of the user's own
        "console": "off",
        "silent": True,
        "symlink": False,
        "disable_git": True,
        "disable_code": True,
        "x_disable_stats": True,  # of this machine, once the run is over
        "x_disable_meta": True,
        "x_save_requirements": False,
    }


def _is_logged_in() -> bool:
    import wandb

    if wandb.run is not None:  # the user's own
        return not wandb.run.offline
    return bool(wandb.login(prompt=False, verify=False))


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)

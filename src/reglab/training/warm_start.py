"""Warm start: initial weights from the previous job on a path (``sweep.path``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from reglab.core.errors import UserError
from reglab.tracking.folder import read_identity
from reglab.tracking.run_state import read_state
from reglab.training import checkpoint_files

INITIAL = "initial"


def warm_start(model: nn.Module, sweep: Mapping[str, Any]) -> str | None:
    """Load the final weights and buffers of the previous job on the path; return that run's id.

    They are those that the run stands for: of its best epoch where it may stop early, otherwise of
    its last; trained, not averaged. Where that run did not finish, the one that it started from is
    used, and so on; where none is left, the model keeps its initial weights and ``initial`` is
    returned. None: the job starts from no other.

    Args:
        sweep: Of the job's config; ``start`` is the folder of the run before, ``after`` the number
            of its job.

    Raises:
        UserError: If the weights do not fit the model.
    """
    if not sweep.get("start"):
        return None
    path = _checkpoint(sweep)
    if path is None:
        return INITIAL
    content = checkpoint_files.read(path)["state_dict"]
    state = {name.removeprefix("model."): tensor for name, tensor in content.items() if name.startswith("model.")}
    weights = [state[name] for name, _ in model.named_parameters() if name in state]
    if all(weight.dtype == torch.float64 for weight in weights):
        model.double()  # before training does, which would be too late for the digits beyond float32
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys  # a regularizer may have added buffers
    except RuntimeError as error:
        raise UserError(f"the weights of {path} do not fit the model that is to start from them: {error}") from error
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)} of the model that is to start from it")
    return read_identity(path.parents[1]).run_id


def _checkpoint(sweep: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint of the last finished run before it on the path."""
    while sweep.get("start"):
        folder = Path(sweep["start"])
        previous = _recorded(folder)
        if previous is None or previous.get("job") != sweep.get("after"):
            return None  # it failed before its run was opened, and the folder may hold another's
        state = read_state(folder)
        if state and state.status == "FINISHED":
            return folder / "checkpoints" / f"{state.weights}.ckpt"
        sweep = previous
    return None


def _recorded(folder: Path) -> Mapping[str, Any] | None:
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    section: Mapping[str, Any] = config.get("sweep") or {}
    return section

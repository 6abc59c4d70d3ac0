"""Warm start: initial weights from the previous job on a path (``sweep.path``)."""

from pathlib import Path

import torch
from torch import nn

from reglab.config.job_request import JobRequest, WarmStart, from_tags, take_recorded
from reglab.config.yaml_file import read_mapping
from reglab.core.errors import UserError
from reglab.tracking.folder import read_identity
from reglab.tracking.run_state import RunState, read_state
from reglab.training import checkpoint_files

INITIAL = "initial"


def warm_start(model: nn.Module, start: WarmStart | None) -> str | None:
    """Load the final weights and buffers of the previous job on the path; return that run's id.

    They are those that the run stands for: of its best epoch where it may stop early, otherwise of
    its last; trained, not averaged. Where that run did not finish, the one that it started from is
    used, and so on; where none is left, the model keeps its initial weights and ``initial`` is
    returned. None: the job starts from no other.

    Args:
        start: The job before.

    Raises:
        UserError: If the weights do not fit the model.
    """
    if start is None:
        return None
    path = _checkpoint(start)
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


def _checkpoint(start: WarmStart) -> Path | None:
    """Return the checkpoint of the last finished run before it on the path."""
    earlier: WarmStart | None = start
    while earlier is not None:
        state = read_state(earlier.folder)
        request = _recorded(state) if state else None
        if state is None or request is None or request.number != earlier.after:
            return None  # it failed before its run was opened, and the folder may hold another's
        if state.status == "FINISHED":
            return state.folder / "checkpoints" / f"{state.weights}.ckpt"
        earlier = request.start
    return None


def _recorded(state: RunState) -> JobRequest | None:
    """Return the request of the job whose run this is."""
    request = from_tags(state.tags)
    if request is None and (file := state.folder / "config.yaml").is_file():  # of an older version
        request = take_recorded(read_mapping(file))
    return request

"""``ddp_spawn``, ``ddp_fork``, ``ddp_notebook``: train on several devices from a notebook.

Lightning's own way would leave what our callbacks saw in its processes. Here each process trains as
under torchrun, and hands back what a fit in this process would have: rank 0 in a file of plain
tensors and numbers.
"""

import io
import pickle
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest.mock import patch

import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.trainer.connectors import accelerator_connector
from torch import nn

from reglab.core import signals
from reglab.core.errors import UserError
from reglab.processes import rank_environment, rank_processes
from reglab.processes.child_processes import ChildProcesses, environment, send_errors
from reglab.processes.parent_watch import exit_with_parent
from reglab.regularizers import Cocktail
from reglab.training.experiment import Experiment
from reglab.training.trainer import build_trainer, quiet_lightning

_EXIT_SECONDS = 20.0  # to save and end after the notebook's process is gone
_NAME = re.compile(r"ddp_(spawn|fork|notebook)(?:_find_unused_parameters_(true|false))?")

FitResult = tuple[dict[str, float], dict[str, dict[int, float]], str | None]
"""The metrics at the end, each metric's value by epoch, and the run's id."""


@dataclass(frozen=True)
class ProcessPlan:
    """How the processes of a fit start: how many, by spawn or fork."""

    method: str
    ranks: int


def plan_processes(job: Experiment) -> tuple[ProcessPlan | None, Experiment]:
    """Return how the job's processes start (None: in this one) and the job for each.

    Raises:
        UserError: Where they could not start.
    """
    name = job.trainer.get("strategy", "auto")
    if name == "auto" and hasattr(sys, "ps1") and job.trainer.get("devices", "auto") not in (1, "1", "auto"):
        name = "ddp_notebook"  # as Lightning decides at a prompt
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None, job
    method = "spawn" if match[1] == "spawn" else "fork"
    _check(name, method, job)
    strategy = "ddp_find_unused_parameters_true" if match[2] == "true" else "ddp"
    job = replace(job, trainer={**job.trainer, "strategy": strategy})
    with allow_notebook(), quiet_lightning():
        ranks = build_trainer(job, []).num_devices
    if ranks == 1:
        return None, replace(job, trainer={**job.trainer, "strategy": "auto"})
    return ProcessPlan(method, ranks), job


def _check(name: str, method: str, job: Experiment) -> None:
    own = rank_environment.process_rank()
    if own.ranks > 1:
        raise UserError(
            f"strategy={name} starts processes, but {own.launched_by} already did: use 'ddp'. "
            "In a script put reglab.fit under if __name__ == '__main__': each process runs the rest of it again"
        )
    if job.trainer.get("num_nodes", 1) != 1:
        raise UserError(f"strategy={name} starts processes on this machine alone: leave num_nodes out, or use torchrun")
    if method not in get_all_start_methods():
        raise UserError(f"strategy={name} needs fork, which this system lacks: use 'ddp_spawn'")
    if method == "fork" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        raise UserError(
            f"strategy={name} forks this process, whose CUDA has been used already: restart the kernel and let nothing "
            "use the GPU before reglab.fit, or use strategy='ddp_spawn' with the model's class in a module of your own"
        )


@contextmanager
def allow_notebook() -> Iterator[None]:
    """Let Lightning accept ``ddp`` in a notebook: reglab starts the processes."""
    with patch.object(accelerator_connector, "_IS_INTERACTIVE", False):
        yield


def run(plan: ProcessPlan, train: Callable[[], FitResult], model: nn.Module, cocktail: Cocktail) -> FitResult:
    """Call ``train`` in each process and return the result of rank 0.

    ``model`` and ``cocktail`` have the trained weights and state afterwards. Raises what was raised
    in one of the processes, RuntimeError where one died. No process is left.

    Args:
        plan: Number of processes and start method.
        train: Trains ``model`` under ``cocktail`` and returns the result of the fit.
        model: Gets the trained weights.
        cocktail: Gets the trained state.
    """
    context = get_context(plan.method)
    port = rank_processes.free_port()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.pt"
        payload: Any = (train, model, cocktail)
        if plan.method == "spawn":
            # By a file: Python hands arguments over by a pipe, and waits for ever where the process
            # dies before it has read them, as it does in a script that starts training wherever it
            # is imported.
            payload = Path(folder) / "work"
            payload.write_bytes(_pickled(train, model, cocktail))
        with ChildProcesses() as children:
            for rank in range(plan.ranks):
                with environment(_environment(plan, rank, port)), _quiet_start():
                    children.start(rank, context, _rank, rank, payload, result)
            children.wait()
        trained = torch.load(result, map_location="cpu", weights_only=True)
    _load_trained(model, cocktail, trained)
    return trained["metrics"], trained["history"], trained["run_id"]


def _environment(plan: ProcessPlan, rank: int, port: int) -> dict[str, str]:
    # A forked process must not compute on threads: those of OpenMP are not there any more, and it
    # would wait for them.
    threads = {"OMP_NUM_THREADS": "1"} if plan.method == "fork" else {}
    return {**rank_processes.rank_environment(rank, plan.ranks, port), **threads}


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Block signals in processes started inside the context, and a warning about them."""
    with signals.blocked(signal.SIGINT, signal.SIGTERM), warnings.catch_warnings():
        # Python 3.12 warns of forking a process with threads, which a notebook's always is.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        yield


def _rank(pipe: Any, rank: int, payload: Any, result: Path) -> None:
    with signals.handle_signals(ignore_repeats=True), send_errors(pipe):
        exit_with_parent(_EXIT_SECONDS)
        signals.unblock()
        setattr(rank_zero_only, "rank", rank)  # noqa: B010 - a function has no such attribute for mypy
        forked = not isinstance(payload, Path)
        if forked:
            torch.set_num_threads(1)
            _forget_connections()
        train, model, cocktail = payload if forked else pickle.loads(payload.read_bytes())
        with allow_notebook():
            metrics, history, run_id = train()
        if rank == 0:
            states = {"model": model.state_dict(), "cocktail": cocktail.state_dict(), "training": model.training}
            torch.save({"metrics": metrics, "history": history, "run_id": run_id, **states}, result)


def _forget_connections() -> None:
    """Leave open connections to a store to the process that opened them."""
    store = sys.modules.get("mlflow.store.tracking.sqlalchemy_store")
    for engine in store.SqlAlchemyStore._engine_map.values() if store else ():
        engine.dispose(close=False)


def _load_trained(model: nn.Module, cocktail: Cocktail, trained: Mapping[str, Any]) -> None:
    """Load the trained state into the user's objects, as a fit in this process would."""
    cocktail.prepare(model)
    for module, state in ((model, trained["model"]), (cocktail, trained["cocktail"])):
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if name in state:  # precision=64-true and its like change the dtype of the weights
                tensor.data = tensor.data.to(state[name].device, state[name].dtype)
        module.load_state_dict(state)
    model.train(trained["training"])


class _Picklable(pickle.Pickler):
    """Refuses what another process could not find: what was defined in a notebook's cell."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, (type, FunctionType)) and thing.__module__ == "__main__" and _main_is_notebook():
            raise pickle.PicklingError(f"{thing.__qualname__} is defined in the notebook")
        return NotImplemented


def _main_is_notebook() -> bool:
    main = sys.modules["__main__"]
    return getattr(main, "__spec__", None) is None and not Path(getattr(main, "__file__", "")).is_file()


def _pickled(*things: Any) -> bytes:
    target = io.BytesIO()
    try:
        _Picklable(target).dump(things)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"strategy='ddp_spawn' starts new Python processes, which cannot be given this model or data ({error}): "
            "put its class into a module of your own and import it, or use strategy='ddp_notebook', which forks"
        ) from error
    return target.getvalue()

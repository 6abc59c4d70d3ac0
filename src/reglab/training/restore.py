"""Load trained models from their runs, and test them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reglab import data, models
from reglab.config.fingerprint import REMOVED_KEYS
from reglab.config.lightning_loop import uses_lightning_loop
from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core import secrets
from reglab.core.errors import UserError, nearest
from reglab.measures import measure_settings
from reglab.regularizers import Cocktail
from reglab.regularizers.select import selected
from reglab.tracking.folder import IDENTITY, read_identity
from reglab.tracking.folder_gate import check_run_folder
from reglab.tracking.run_state import read_state
from reglab.training import checkpoint_files
from reglab.training.describe import build_cocktail, resolved
from reglab.training.finalize import load_evaluation_weights
from reglab.training.fit import test_metrics
from reglab.training.optimizer_average import saved_average
from reglab.training.own_loss import loss_of, with_loss
from reglab.training.own_module import build_module

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_KINDS = ("last", "best")
TOUCHES = "reglab.test_touches"  # how often, from the second time on


@dataclass(frozen=True)
class Restored:
    """A trained model beside its cocktail.

    Args:
        kind: Last or best.

    Attributes:
        averaged: The cocktail judges by averaged weights.
    """

    model: nn.Module
    cocktail: Cocktail
    kind: str
    description: Mapping[str, Any]

    @property
    def averaged(self) -> bool:
        return self.cocktail.averages


def load(
    run: str | Path, weights: str | None = None, uri: str | None = None, model: nn.Module | None = None
) -> nn.Module:
    """Return the trained model of a run, in evaluation mode, on the CPU.

    Args:
        run: A run's id, its name (the newest of that name), its folder, or the path of a
            checkpoint.
        weights: ``last``, ``best`` (the best validation epoch), or None for those that the run
            stands for. Where the run kept an average of the weights, it is the average.
            ``model.reglab_weights`` says which they are: ``last``, ``best averaged``, ...
        uri: Where runs are kept; None: MLFLOW_TRACKING_URI, or ``reglab.db`` in the working folder.
            A run's folder may name another store, which is asked only if it is this one, or a file
            beside the run.
        model: A new instance of the model's class, needed only where it was not built from a
            config.

    Raises:
        UserError: If there is no such run or checkpoint.
    """
    restored = restore(checkpoint_of(run, weights, uri), model)
    load_evaluation_weights(restored.model, restored.cocktail)
    restored.model.__dict__["reglab_weights"] = restored.kind + (" averaged" if restored.averaged else "")
    return restored.model


def restore(path: Path, model: nn.Module | None = None) -> Restored:
    """Return what the checkpoint at ``path`` holds, with the trained (not averaged) weights in the
    model.

    Args:
        path: Of the checkpoint.
        model: A new instance, where it cannot be built from the config.
    """
    content = checkpoint_files.read(path)
    with value_errors_as_user_errors(f"the checkpoint {path}"):
        return _restored(path, content, model)


def _restored(path: Path, content: Mapping[str, Any], model: nn.Module | None) -> Restored:
    description = content.get("hyper_parameters") or {}
    if "config" not in description:
        raise UserError(f"{path} is not a checkpoint of reglab: it does not say how its model was built")
    secrets.learn(description["config"])
    model = model if model is not None else _build(path, description)
    config = description["config"]
    cocktail = build_cocktail(resolved(config, "regularizer"), resolved(config, "seed"), description["task"])
    if (average := saved_average(content["state_dict"])) is not None:
        cocktail.judge_by(average)
    model = cocktail.prepare(model)
    cocktail.complete(content["state_dict"])
    holder = nn.Module()
    holder.model, holder.cocktail = model, cocktail
    try:
        holder.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the model: {error}") from error
    return Restored(model.eval(), cocktail, path.stem, description)


Test = Callable[[Restored, "RunRecord"], dict[str, float]]


def test_run(uri: str, run_id: str, measure: Test | None) -> dict[str, float]:
    """Return ``test/loss`` and ``test/<score>`` of a run's weights with intervals, and record them
    with the run.

    The data are made anew from the run's config.

    Args:
        uri: The MLflow store.
        run_id: The run.
        measure: Returns the metrics of a restored run; None: those of its data's test part.

    Returns:
        Metrics by name.

    Raises:
        UserError: If they are not those that it was trained on.
    """
    from reglab.tracking.mlflow.amend import amend
    from reglab.tracking.mlflow.read import get_run

    record = get_run(uri, run_id)
    restored = restore(checkpoint_of(run_id, None, uri))
    metrics = (measure or test_part)(restored, record)
    again = {TOUCHES: str(touches(record) + 1)} if touches(record) else {}
    amend(record, metrics, int(record.metrics.get("final/epoch", 0)), {"reglab.test_touched": "true", **again})
    return metrics


def touches(record: "RunRecord") -> int:
    """Return how often the test part was measured for a run."""
    once = record.tags.get("reglab.test_touched") == "true" or "test/loss" in record.metrics
    return int(record.tags.get(TOUCHES, once))


def test_part(restored: Restored, record: "RunRecord") -> dict[str, float]:
    """Return the metrics of the test part of a run's data, made anew from its config.

    Args:
        restored: With the run's weights.
        record: Of the run.

    Raises:
        UserError: If the data are not those that it was trained on.
    """
    loaded = data.load(resolved(restored.description["config"], "data"))
    check_same_data(loaded.digest, record)
    node, batch = (resolved(restored.description["config"], key) for key in ("loss", "data.batch_size"))
    loaded = with_loss(loaded, loss_of(node), restored.model, loaded.batch_size or batch)
    recorded = resolved(restored.description["config"], "measure") or {}
    kept = {key: value for key, value in recorded.items() if key not in REMOVED_KEYS}
    return test_metrics(restored.model, restored.cocktail, loaded, measure_settings(kept))


def check_same_data(digest: str, record: "RunRecord") -> None:
    """Raise UserError where the data of a run changed since it was trained.

    Args:
        digest: Of the data as they are.
        record: Of the run.
    """
    if digest != record.tags.get("reglab.data_digest"):
        raise UserError(
            f"the data of run {record.name} changed since it was trained, so it cannot be tested; restore them"
        )


def flat_weights(uri: str, run_id: str) -> NDArray[Any]:
    """Return all regularized weights of a run, as it is judged, in one array."""
    restored = restore(checkpoint_of(run_id, None, uri))
    load_evaluation_weights(restored.model, restored.cocktail)
    pieces: list[Tensor] = [weight.detach().flatten().float() for _, weight in selected(restored.model, "weights")]
    return torch.cat(pieces).numpy()


def _build(path: Path, description: Mapping[str, Any]) -> nn.Module:
    node = resolved(description["config"], "model")
    if not node:
        raise UserError(
            f"the model of {path} was made in Python, not from a config: give a new one, "
            "reglab.load(run, model=MyModel())"
        )
    if uses_lightning_loop({"model": node}):
        return build_module(node)
    sizes = (tuple(description["input_shape"]), description["outputs"], description.get("tokens"))
    return models.build(node, *sizes, description.get("several", ()), bool(description.get("documents")))


def checkpoint_of(run: str | Path, weights: str | None, uri: str | None) -> Path:
    """Return the checkpoint of a run on this machine, downloaded if it is elsewhere.

    Args:
        run, weights, uri: As for ``load``.

    Raises:
        UserError: If there is no such run or checkpoint.
    """
    if weights is not None and weights not in _KINDS:
        raise UserError(f"weights={weights!r}: {nearest(str(weights), _KINDS)}")
    if str(run).endswith(".ckpt"):
        return Path(run)
    folder = Path(run)
    if folder.is_dir():
        check_run_folder(folder)
    state = None if weights else read_state(folder)
    if state or (weights and (folder / IDENTITY).is_file()):
        here = folder / "checkpoints" / f"{state.weights if state else weights}.ckpt"
        if here.is_file() or weights or read_identity(folder).uri is None:
            return here
    from reglab.tracking.mlflow.read import artifact_path, find_run
    from reglab.tracking.settings import absolute_uri
    from reglab.tracking.store_gate import name_store

    store = absolute_uri(uri, Path.cwd())
    if uri is not None:
        name_store(store)
    record = find_run(store, run)
    which = weights or record.tags.get("reglab.weights", "last")
    return artifact_path(record, f"checkpoints/{which}.ckpt")

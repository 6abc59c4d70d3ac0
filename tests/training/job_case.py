"""Small jobs as ``reglab train`` composes them, and MLflow's own client to judge what they left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor, nn

from reglab.config.paths import conf_dir
from reglab.training.job import JobResult, run_job

EPOCHS = 3
SMALL = (
    "data=wine",
    "model.width=6",
    "model.depth=1",
    "optimizer.lr=1e-2",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.accelerator=cpu",
)


def config(*overrides: str) -> DictConfig:
    """Return the config of a small job: wine (178 rows, 13 inputs, 3 classes), one hidden layer of
    6.
    """
    another = any(word.startswith("model=") for word in overrides)
    small = [word for word in SMALL if not (another and word.startswith("model."))]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", [*small, *overrides])


@dataclass(frozen=True)
class Case:
    """A working folder with a store."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'reglab.db'}"

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    def train(self, *overrides: str, **given: Any) -> JobResult:
        return run_job(config(*overrides), **given)

    def run(self, run_id: str) -> Any:
        return self.client.get_run(run_id)

    def metrics(self, run_id: str) -> dict[str, float]:
        return dict(self.run(run_id).data.metrics)

    def steps(self, run_id: str, key: str) -> dict[int, float]:
        """Return a metric's value by step."""
        return {point.step: point.value for point in self.client.get_metric_history(run_id, key)}

    def artifacts(self, run_id: str) -> Path:
        return Path(self.run(run_id).info.artifact_uri.removeprefix("file://"))

    def runs(self) -> list[Any]:
        experiments = [actual.experiment_id for actual in self.client.search_experiments()]
        return list(self.client.search_runs(experiments))


def close(folder: Path) -> None:
    """Close the store's connections, which MLflow keeps open for the process's life."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._get_or_create_engine(f"sqlite:///{folder / 'reglab.db'}").dispose()


class Tokened(nn.Linear):
    """A user's model that is given a secret, such as the key of a service that serves its
    embeddings.
    """

    def __init__(self, inputs: int, outputs: int, token: str) -> None:
        super().__init__(inputs, outputs)
        assert token == "s3cr3t-t0ken"


def outputs_by_hand(state: dict[str, Tensor], inputs: Tensor) -> NDArray[Any]:
    """Return the outputs of a checkpoint's one-hidden-layer net, in float64, by numpy."""
    weight = {name: tensor.double().numpy() for name, tensor in state.items() if name.startswith("model.")}
    hidden = inputs.double().numpy() @ weight["model.hidden.0.linear.weight"].T + weight["model.hidden.0.linear.bias"]
    outputs: NDArray[Any] = np.maximum(hidden, 0) @ weight["model.head.weight"].T + weight["model.head.bias"]
    return outputs


def loss_and_accuracy(outputs: NDArray[Any], targets: Tensor) -> tuple[float, float]:
    """Return the mean cross entropy and the share of right classes."""
    wanted = targets.numpy()
    shifted = outputs - outputs.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(wanted)), wanted]
    return float(losses.mean()), float((outputs.argmax(1) == wanted).mean())


def checkpoint(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state

"""Test a LightningModule by its own ``test_step``, once."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.config.lightning_loop import is_data_module
from reglab.core.errors import UserError
from reglab.training import restore
from reglab.training.describe import resolved
from reglab.training.lightning.data_module import build_data
from reglab.training.lightning.prepare import seeded
from reglab.training.lightning.trainer_settings import lightning_arguments
from reglab.training.metric_names import without_part
from reglab.training.own_module import Package, package_of
from reglab.training.restore import Restored, check_same_data
from reglab.training.run_logger import RunLogger
from reglab.training.trainer import quiet_lightning

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord


def test_run(uri: str, run_id: str) -> dict[str, float]:
    """Do what ``restore.test_run`` does, also of runs on a user's LightningDataModule.

    Args:
        uri: The MLflow store.
        run_id: The run.

    Returns:
        Metrics by name.

    Raises:
        UserError: Where the module has no ``test_step``, or the data changed.
    """
    return restore.test_run(uri, run_id, _test)


def _test(restored: Restored, record: "RunRecord") -> dict[str, float]:
    config = restored.description["config"]
    node = resolved(config, "data")
    package = package_of(type(restored.model))
    if package is None or not is_data_module({"data": node}):
        return restore.test_part(restored, record)
    with seeded(resolved(config, "seed")), restored.cocktail.evaluating(restored.model):
        data = build_data(node, package)
        check_same_data(data.digest, record)
        return test_metrics(restored.model, package, resolved(config, "trainer"), data.test)


def test_metrics(
    module: Any, package: Package, trainer: Mapping[str, Any], sources: Mapping[str, Any]
) -> dict[str, float]:
    """Return what the ``test_step`` of a module logs on its test part, as ``test/<name>``.

    Args:
        module: With the weights that are judged.
        package: Of its class.
        trainer: Arguments of the job's Trainer.
        sources: Of the test part, as ``Trainer.test`` takes them.

    Raises:
        UserError: Where it has no ``test_step``, or that logs no number.
    """
    settings = {**lightning_arguments(trainer), "devices": 1, "num_nodes": 1, "strategy": "auto"}
    logger = RunLogger(Path(tempfile.gettempdir()))
    with quiet_lightning(), warnings.catch_warnings():
        tester = package.get("Trainer")(
            **settings,
            logger=logger,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            results = tester.test(module, **sources, verbose=False)
        except package.get("utilities.exceptions.MisconfigurationException") as error:
            raise UserError(f"the test part cannot be measured: {error}. sweep.test=false leaves it out") from error
    logged = {name: value for result in results for name, value in result.items()}
    if not logged:
        raise UserError(
            f"{type(module).__name__}.test_step logs nothing: end it by self.log('test/loss', loss), or leave the test "
            "out by sweep.test=false"
        )
    return {f"test/{without_part(name)}": float(value) for name, value in logged.items()}

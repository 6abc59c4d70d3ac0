"""What each argument of Lightning's ``Trainer`` does in ``reglab train`` and ``reglab.fit``.

``docs/trainer.md`` shows this table, and a test compares it with the signature of ``Trainer``: each
argument acts, or is refused with the way out.
"""

import os
from collections.abc import Mapping

from pytorch_lightning.profilers import Profiler

from reglab.core.errors import UserError, nearest

ACTS: Mapping[str, str] = {
    "accelerator": "As in Lightning.",
    "strategy": "`auto`, `ddp`, `fsdp` (FSDP2), and in a notebook `ddp_notebook`.",
    "devices": "As in Lightning; in a sweep the devices of one job.",
    "num_nodes": "As in Lightning.",
    "precision": "As in Lightning; penalties and proximal steps stay in single precision or better.",
    "max_epochs": "As in Lightning. `null` or -1 leave the end to `max_steps`.",
    "min_epochs": "No regularizer stops a job before.",
    "max_steps": "Optimizer steps in all. The last epoch may end early; it is measured like the others.",
    "limit_train_batches": "The first batches of each epoch: a number, over all devices, or a share of its steps.",
    "accumulate_grad_batches": "As in Lightning; regularizers act once for each step, on the joint batch.",
    "sync_batchnorm": "On by default on several devices.",
    "deterministic": "As in Lightning, for this job alone.",
    "benchmark": "As in Lightning, for this job alone.",
    "detect_anomaly": "As in Lightning; the job trains outside of packs.",
    "profiler": "`simple`, `advanced` or `pytorch`, written to `fit-profile.txt`; the job trains outside of packs.",
}
# Settings that Lightning does not have.
OWN = (
    *("gradient_clip_norm", "steps_per_batch", "checkpoint_seconds", "polish_steps", "compile"),
    *("activation_checkpointing", "shards"),
)
REFUSED: Mapping[str, str] = {
    "logger": "every run is recorded in its journal and sent to MLflow: tracking=mlflow, offline or none says where",
    "callbacks": "reglab train has no callbacks of yours yet; in Python, reglab.Regularize joins them in your own "
    "pl.Trainer",
    "fast_dev_run": "debug=quick tracking=none trains one epoch of 64 rows",
    "min_steps": "give trainer.min_epochs",
    "max_time": "a result must not depend on the clock. `timeout 1h reglab train ...` saves and ends a run, and "
    "reglab resume continues it",
    "limit_val_batches": "all validation rows are measured, in a fixed order: data.val_size=ROWS makes them fewer",
    "limit_test_batches": "all test rows are measured, once: data.test_size=ROWS makes them fewer",
    "limit_predict_batches": "reglab train predicts nothing",
    "overfit_batches": "data.train_size=ROWS trains on the same rows each epoch; debug=overfit does it with 32",
    "val_check_interval": "measure.every counts epochs, and trainer.limit_train_batches makes an epoch shorter",
    "check_val_every_n_epoch": "give measure.every",
    "num_sanity_val_steps": "the untrained model is measured before the first step, on all rows",
    "log_every_n_steps": "the terms of the objective are recorded as means over all steps of an epoch; "
    "tracking.points says how many points of a curve go to MLflow",
    "enable_checkpointing": "checkpoints are what a run resumes from: trainer.checkpoint_seconds says how often",
    "enable_progress_bar": "progress is shown on standard error: 2>/dev/null hides it",
    "enable_model_summary": "the run's config.yaml and its chart of weights describe the model",
    "gradient_clip_val": "proximal steps must be scaled with the gradient: give trainer.gradient_clip_norm",
    "gradient_clip_algorithm": "proximal steps must be scaled with the gradient: give trainer.gradient_clip_norm",
    "inference_mode": "measuring never records gradients",
    "use_distributed_sampler": "a step's rows are the same on any number of devices",
    "barebones": "a run that records and saves nothing is tracking=none; scripts/bench/overhead.py has the cost of a "
    "step",
    "plugins": "precision and cluster are chosen by trainer.precision and by the environment",
    "reload_dataloaders_every_n_epochs": "the order of an epoch follows from seed and epoch",
    "default_root_dir": "all that a run writes is in its folder: give hydra.run.dir, in a sweep hydra.sweep.dir",
    "enable_autolog_hparams": "the whole configuration is recorded",
    "model_registry": "MLflow keeps the models",
}
# Values that ask for what is done anyhow.
_AS_IT_IS: Mapping[str, tuple[object, ...]] = {
    "enable_checkpointing": (True,),
    "enable_progress_bar": (True,),
    "enable_autolog_hparams": (True,),
    "inference_mode": (True,),
    "fast_dev_run": (False,),
    "limit_val_batches": (1.0,),
    "limit_test_batches": (1.0,),
    "overfit_batches": (0, 0.0),
    "val_check_interval": (1.0,),
    "check_val_every_n_epoch": (1,),
    "num_sanity_val_steps": (0,),
    "enable_model_summary": (False,),
    "use_distributed_sampler": (False,),
    "barebones": (False,),
    "reload_dataloaders_every_n_epochs": (0,),
}
# Arguments that Lightning would take anything for.
KINDS: Mapping[str, tuple[object, ...]] = {
    "deterministic": (True, False, "warn"),
    "benchmark": (True, False),
    "detect_anomaly": (True, False),
    "profiler": ("simple", "advanced", "pytorch"),
}
_VARIABLES = "PL_TRAINER_"  # Lightning takes arguments that are not given from such variables


def supported(trainer: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments that act, without those that say what is done anyhow.

    Args:
        trainer: Arguments of Lightning's ``Trainer``; others are left to it.

    Raises:
        UserError: Naming one that does not act, and what to give instead; for a variable of
            Lightning's that sets an argument behind the configuration's back.
    """
    for variable, given in os.environ.items():
        key = variable.removeprefix(_VARIABLES).lower()
        if variable.startswith(_VARIABLES) and key in {*ACTS, *REFUSED}:
            raise UserError(
                f"{variable}={given} is set, which no run would record: unset it. "
                + (f"Instead: {REFUSED[key]}" if key in REFUSED else f"Instead: trainer.{key}={given}")
            )
    kept: dict[str, object] = {}
    for key, value in trainer.items():
        if key in ACTS or key in OWN:
            if key in KINDS and value is not None and value not in KINDS[key] and not isinstance(value, Profiler):
                raise UserError(f"trainer.{key}={value!a}: give {' or '.join(map(_word, KINDS[key]))}")
            kept[key] = value
        elif key not in REFUSED:
            raise UserError(f"trainer.{key} is no setting of the trainer: {nearest(key, (*ACTS, *OWN))}")
        elif value is not None and (type(value), value) not in [(type(it), it) for it in _AS_IT_IS.get(key, ())]:
            raise UserError(f"trainer.{key} has no effect here: {REFUSED[key]}")
    return kept


def _word(value: object) -> str:
    return str(value).lower()

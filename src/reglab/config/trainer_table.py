"""What each argument of Lightning's ``Trainer`` does here: it acts, or is refused with the way out.

``docs/trainer.md`` shows this table, and a test compares it with the signature of ``Trainer``.
"""

from collections.abc import Mapping

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
# With a LightningModule of the user's (model=lightning) these act as well, as in Lightning.
ACTS_IN_LIGHTNING = (
    *("gradient_clip_val", "gradient_clip_algorithm", "limit_val_batches", "overfit_batches", "val_check_interval"),
    *("check_val_every_n_epoch", "num_sanity_val_steps", "min_steps", "inference_mode", "use_distributed_sampler"),
    *("reload_dataloaders_every_n_epochs", "limit_test_batches"),
)
# And these do not, except at the values that say so.
REFUSED_IN_LIGHTNING: Mapping[str, tuple[tuple[object, ...], str]] = {
    "steps_per_batch": ((32, None), "a LightningModule takes one step a batch"),
    "polish_steps": ((0, None), "it needs the loss on all training rows; leave it out"),
    "compile": ((False, None), "call torch.compile in the module's configure_model"),
    "activation_checkpointing": ((False, None), "use torch.utils.checkpoint in the module"),
    "shards": ((None,), "weights are not sharded here: trainer.strategy=ddp"),
}
REFUSED: Mapping[str, str] = {
    "logger": "every run is recorded in its journal and sent to MLflow; tracking.also=[csv,tensorboard,wandb,"
    "trackio] writes it for others besides",
    "callbacks": "name each by itself: +callbacks.watch._target_=my_package.Watch +callbacks.watch.every=10",
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
# The way out in the words of reglab.fit, where that of the command line does not fit.
REFUSED_IN_FIT: Mapping[str, str] = {
    "logger": "tracking='sqlite:///reglab.db' records the run in MLflow, and fit.history has all metrics",
    "callbacks": "give reglab.fit(..., callbacks=[...])",
    "fast_dev_run": "give epochs=1 and reglab.dataset(..., train_size=64)",
    "min_steps": "give trainer={'min_epochs': ...}",
    "max_time": "a result must not depend on the clock; give epochs=",
    "limit_val_batches": "all validation rows are measured; reglab.dataset(..., val_size=ROWS) makes them fewer",
    "limit_test_batches": "all test rows are measured; reglab.dataset(..., test_size=ROWS) makes them fewer",
    "limit_predict_batches": "reglab.fit predicts nothing: call fit.model",
    "overfit_batches": "reglab.dataset(..., train_size=ROWS) trains on the same rows each epoch",
    "val_check_interval": "MeasureSettings(every=...) counts epochs, and limit_train_batches makes an epoch shorter",
    "check_val_every_n_epoch": "give measure=reglab.MeasureSettings(every=...)",
    "log_every_n_steps": "fit.history has the terms of the objective as means over all steps of an epoch",
    "enable_checkpointing": "with tracking= they are written: trainer={'checkpoint_seconds': ...} says how often",
    "enable_progress_bar": "reglab.fit shows none",
    "enable_model_summary": "print(model) shows the model",
    "gradient_clip_val": "proximal steps must be scaled with the gradient: give trainer={'gradient_clip_norm': ...}",
    "gradient_clip_algorithm": "proximal steps must be scaled with the gradient: give "
    "trainer={'gradient_clip_norm': ...}",
    "barebones": "without tracking= nothing is recorded",
    "plugins": "precision and cluster are chosen by trainer={'precision': ...} and by the environment",
    "default_root_dir": "without tracking= nothing is written, and with it the run's folder is in runs/",
    "enable_autolog_hparams": "with tracking= the numbers of regularizers and optimizer are recorded",
    "model_registry": "reglab.load(fit.run_id) gives the model of a run that was recorded",
}

"""Checkpoints of a pack: one file to resume from, and each job's own when it ends."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from reglab.tracking.pack_manifest import CHECKPOINT, Manifest
from reglab.training import checkpoint_files
from reglab.training.checkpoints import Checkpoints, SaveOnSignal
from reglab.training.fused.best import Best
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.stack import member_state, torch_optimizer_state
from reglab.training.recorder import Recorder


class PackCheckpoints(SaveOnSignal):
    """Writes the whole pack beside its ``manifest``: before the first step, so that the pack stays
    together whatever dies, after an epoch at most every ``seconds``, and after the step in which a
    signal asks to end.

    It holds the autotuned choices too: resuming with others would round differently.
    """

    def __init__(self, module: PackModule, manifest: Manifest, seconds: float) -> None:
        super().__init__(module, seconds)
        self.manifest = manifest
        self.path = Path(manifest.folders[0], CHECKPOINT)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if not self.path.exists():
            self.write(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.manifest.write(self.module.steps_done())


def write_member(folder: Path, module: PackModule, row: int, recorder: PackRecorder, best: Best) -> list[Path]:
    """Write ``best.ckpt`` and ``last.ckpt`` of the job in ``row`` of the stack, and return their
    paths.

    Both have the form of a solo run's, so that it can be resumed alone: the optimizer's state as
    ``torch.optim`` keeps it, the schedule's, and those of the callbacks. Where the best epoch is
    the last, they are one file with two names.

    Args:
        folder: Of the job's checkpoints.
        module: The pack's.
        row: Of the stack.
        recorder: The pack's.
        best: The best epochs of the jobs.

    Returns:
        Paths of the files.
    """
    pack, job_index, record = module.pack, module.pack.job_indices[row], best.record
    paths = folder / "best.ckpt", folder / "last.ckpt"
    best_epoch, epoch = record.epochs[job_index], recorder.epochs[job_index]
    best_is_last = best_epoch == epoch and record.steps[job_index] == pack.done()
    if best_epoch and not best_is_last:
        checkpoint_files.write(best_content(pack, job_index, best), paths[0])
    groups, schedule = pack.schedules.state(job_index, pack.done())
    last = {
        "state_dict": member_state(pack.stack, row, pack.base),
        "epoch": epoch,
        "global_step": pack.done(),
        "optimizer_states": [
            {
                "state": torch_optimizer_state(pack.stack, row, pack.rule, pack.order),
                "param_groups": groups,
            }
        ],
        "lr_schedulers": [] if schedule is None else [schedule],
        "callbacks": {
            Recorder.__qualname__: recorder.state_of(row),
            Checkpoints.__qualname__: record.state_of(job_index),
        },
        **_common(pack, job_index),
    }
    if best_is_last:
        checkpoint_files.write(last, paths[0])
        checkpoint_files.link(*paths)
    else:
        checkpoint_files.write(last, paths[1])
    return list(paths if best_epoch else paths[1:])


def best_content(pack: Pack, job_index: int, best: Best) -> dict[str, Any]:
    """Return what ``best.ckpt`` of a job holds."""
    return {"state_dict": best.state(job_index), "epoch": best.record.epochs[job_index], **_common(pack, job_index)}


def _common(pack: Pack, job_index: int) -> dict[str, Any]:
    return {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "hyper_parameters": dict(pack.experiments[job_index].description),
    }

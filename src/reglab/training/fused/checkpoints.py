"""Checkpoints of a pack: one file to go on from, and, when a job ends, those that it would have alone."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl

from reglab.core import signals
from reglab.tracking.pack_manifest import CHECKPOINT, Manifest
from reglab.training import checkpoint_files
from reglab.training.checkpoints import Checkpoints, Ended
from reglab.training.fused.best import Best
from reglab.training.fused.module import Fused
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.stack import member_state, optimizer_state
from reglab.training.recorder import Recorder


class PackCheckpoints(pl.Callback):
    """Writes the whole pack beside its ``manifest``: before the first step, so that the pack stays together whatever
    dies, after an epoch at most every ``seconds``, and after the step in which a signal asks to end.

    It holds what was chosen by measuring, too: going on with other choices would round differently.
    """

    def __init__(self, manifest: Manifest, seconds: float) -> None:
        self.manifest = manifest
        self.path = Path(manifest.folders[0], CHECKPOINT)
        self.seconds = seconds
        self._written = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.install_handlers()
        if not self.path.exists():
            self.write(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save and end where a signal asked for it; at the end of an epoch, that is measured first."""
        fused = cast(Fused, pl_module)
        if fused.interrupted and fused.inside_epoch and not trainer.should_stop:
            self._end(trainer, pl_module, fused.interrupted)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = cast(Fused, pl_module).interrupted
        if number and not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            self._end(trainer, pl_module, number)
        if time.monotonic() - self._written >= self.seconds:
            self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write checkpoint and manifest of the present step."""
        trainer.save_checkpoint(self.path)
        self.manifest.write(cast(Fused, module).pack.done())
        self._written = time.monotonic()

    def _end(self, trainer: pl.Trainer, module: pl.LightningModule, number: int) -> None:
        self.write(trainer, module)
        raise Ended(number)


def write_member(folder: Path, module: Fused, row: int, recorder: PackRecorder) -> list[Path]:
    """Write ``best.ckpt`` and ``last.ckpt`` of the job in ``row`` of the stack, and return their paths.

    Both have the form of a solo run's, so that it can go on alone: the optimizer's state as ``torch.optim`` keeps it,
    the schedule's, and those of the callbacks. Where the best epoch is the last, they are one file with two names.
    """
    pack, place, best = module.pack, module.pack.places[row], recorder.best
    paths = folder / "best.ckpt", folder / "last.ckpt"
    best_is_last = best.epochs[place] == recorder.epochs[place] and best.steps[place] == pack.done()
    if best.epochs[place] and not best_is_last:
        checkpoint_files.write(best_content(pack, place, best), paths[0])
    group, schedule = pack.schedules.state(place, pack.done())
    last = {
        "state_dict": member_state(pack.stack, row, pack.base),
        "epoch": recorder.epochs[place],
        "global_step": pack.done(),
        "optimizer_states": [
            {
                "state": optimizer_state(pack.stack, row),
                "param_groups": [{**group, "params": list(range(len(pack.stack.weights)))}],
            }
        ],
        "lr_schedulers": [] if schedule is None else [schedule],
        "callbacks": {
            Recorder.__qualname__: recorder.member(pack, row),
            Checkpoints.__qualname__: best.member(place),
        },
        **_common(pack, place),
    }
    if best_is_last:
        checkpoint_files.write(last, paths[0])
        checkpoint_files.again(*paths)
    else:
        checkpoint_files.write(last, paths[1])
    return list(paths if best.epochs[place] else paths[1:])


def best_content(pack: Pack, place: int, best: Best) -> dict[str, Any]:
    """Return what ``best.ckpt`` of a job holds."""
    return {"state_dict": best.state(place, pack.base), "epoch": best.epochs[place], **_common(pack, place)}


def _common(pack: Pack, place: int) -> dict[str, Any]:
    return {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "hyper_parameters": dict(pack.experiments[place].description),
    }

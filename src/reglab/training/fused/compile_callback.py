"""Compile a pack while it trains, and let the compiled step take over where it is ready."""

from typing import cast

import pytorch_lightning as pl

from reglab.training.fused.checkpoints import PackCheckpoints
from reglab.training.fused.compilation import Compilation
from reglab.training.fused.module import PackModule
from reglab.training.fused.recorder import PackRecorder

COMPILED, COMPILED_FROM = "reglab.compiled", "reglab.compiled_from"


class CompileCallback(pl.Callback):
    """Compiles a pack that is to be compiled, in a process beside it.

    Where that is done, or given up, a checkpoint is written first, of that very step: a pack that goes on makes the
    same choice at the same step, and so reaches the same bits. What it had recorded behind its checkpoint when it was
    cut short is trained again as it was, uncompiled.

    Comes behind the recorder, so that an epoch is measured before its checkpoint is written.
    """

    def __init__(self, checkpoints: PackCheckpoints, recorder: PackRecorder) -> None:
        self._checkpoints, self._recorder = checkpoints, recorder
        self._started: Compilation | None = None
        self._not_before = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pack = cast(PackModule, pl_module).pack
        self._not_before = self._recorder.recorded() * pack.loader.per_epoch
        if pack.done() and pack.settings.compile is False:  # whatever it was before
            self._recorder.tag(**{COMPILED: "false"})
        if trainer.should_stop:
            return
        if pack.compiled:  # also where it goes on: its next step is to be a compiled one
            self._recorder.tell(trainer, "compiling")
            if not pack.compile():
                self._checkpoints.write(trainer, pl_module)
                self._recorder.tag(**{COMPILED: "false"})
        self._begin(cast(PackModule, pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        fused = cast(PackModule, pl_module)
        if fused.inside_epoch:
            self._look(trainer, fused)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fused = cast(PackModule, pl_module)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.close()
        else:
            self._look(trainer, fused)

    def _begin(self, fused: PackModule) -> None:
        if fused.pack.compiling:
            self._started = fused.pack.compilation()

    def _look(self, trainer: pl.Trainer, fused: PackModule) -> None:
        """Take over what is compiled; begin anew where the pack became a smaller one."""
        pack, started = fused.pack, self._started
        if trainer.should_stop or fused.interrupted or not pack.compiling:
            self.close()
            return
        if started is None or not pack.takes(started):
            self.close()
            self._begin(fused)
        elif started.over and pack.done() >= self._not_before:
            pack.take(started)
            self.close()
            self._checkpoints.write(trainer, fused)
            self._recorder.tag(**{COMPILED: str(pack.compiled).lower(), COMPILED_FROM: str(pack.done())})

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.close()

    def close(self) -> None:
        """End what is still being compiled."""
        started, self._started = self._started, None
        if started is not None:
            started.close()

"""Lightning callback that compiles a pack in the background and switches to the compiled step."""

import pytorch_lightning as pl

from reglab.training.fused.checkpoints import PackCheckpoints
from reglab.training.fused.compilation import Compilation
from reglab.training.fused.module import PackModule
from reglab.training.fused.recorder import PackRecorder

COMPILED, COMPILED_FROM = "reglab.compiled", "reglab.compiled_from"


class CompileCallback(pl.Callback):
    """Compiles a pack in a background process.

    Once that is done or has failed, a checkpoint of that step is written first: a resumed pack
    makes the same choice at the same step, and so reaches the same bits. What it had recorded
    behind its checkpoint when it was cut short is trained again as it was, uncompiled.

    Comes behind the recorder, so that an epoch is measured before its checkpoint is written.
    """

    def __init__(self, module: PackModule, checkpoints: PackCheckpoints, recorder: PackRecorder) -> None:
        self._module, self._checkpoints, self._recorder = module, checkpoints, recorder
        self._compilation: Compilation | None = None
        self._earliest_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pack = self._module.pack
        self._earliest_step = self._recorder.recorded() * pack.loader.per_epoch
        if pack.done() and pack.settings.compile is False:  # whatever it was before
            self._recorder.tag(**{COMPILED: "false"})
        if trainer.should_stop:
            return
        if pack.compiled:  # also when resumed: the next step must be compiled
            self._recorder.show_activity(trainer, "compiling")
            if not pack.compile():
                self._checkpoints.write(trainer)
                self._recorder.tag(**{COMPILED: "false"})
        self._start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if self._module.inside_epoch:
            self._poll(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.close()
        else:
            self._poll(trainer)

    def _start(self) -> None:
        if self._module.pack.compiling:
            self._compilation = self._module.pack.compilation()

    def _poll(self, trainer: pl.Trainer) -> None:
        """Adopt a finished compilation; restart it where the pack was compacted."""
        pack, compilation = self._module.pack, self._compilation
        if trainer.should_stop or self._module.interrupted or not pack.compiling:
            self.close()
            return
        if compilation is None or not pack.matches(compilation):
            self.close()
            self._start()
        elif compilation.done and pack.done() >= self._earliest_step:
            pack.adopt_compiled(compilation)
            self.close()
            self._checkpoints.write(trainer)
            self._recorder.tag(**{COMPILED: str(pack.compiled).lower(), COMPILED_FROM: str(pack.done())})

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.close()

    def close(self) -> None:
        """Stop a running compilation."""
        compilation, self._compilation = self._compilation, None
        if compilation is not None:
            compilation.close()

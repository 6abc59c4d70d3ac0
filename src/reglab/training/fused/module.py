"""LightningModule of a pack, as ``Solo`` is of one job."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from reglab.core import signals
from reglab.core.errors import Diverged
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.training.finite import Finite
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.pack import Pack
from reglab.training.fused.rows import PackSteps
from reglab.training.loop_position import drop_loop_state, resume_loops
from reglab.training.term_sums import TermSums

_log = logging.getLogger(__name__)


class PackModule(pl.LightningModule):
    """Trains a pack; a Lightning batch is a chunk of optimizer steps.

    ``dead`` are the rows of the stack whose job has ended: they are computed, and ignored, until
    the stack is compacted. Members share no tensor, so what happens in a row, NaN included, stays
    in it.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.__dict__["pack"] = pack  # unregistered: its state is stacked, and saved as such
        self.dead: set[int] = set()
        self.failures: dict[int, Diverged] = {}
        self.rates = torch.zeros(0)  # of the latest steps, [steps, jobs]; of the first param group
        self.interrupted: int | None = None
        self._terms = TermSums()  # by the numbers of ``pack.terms``, whose names are known once a step was done
        self._finite = Finite(pack.loader.per_epoch, late=False)

    pack: Pack
    measurement: PackMeasurement

    def loader(self) -> PackSteps:
        """Return the batches of an epoch, from where training stands."""
        return self.pack.loader

    def configure_optimizers(self) -> Any:
        return []

    def on_fit_start(self) -> None:
        self.pack.to(self.device)
        self._progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        resume_loops(self.trainer, self.pack.loader)

    def on_fit_end(self) -> None:
        self.pack.window.close()

    @property
    def job_indices(self) -> list[int]:
        return self.pack.job_indices

    @property
    def inside_epoch(self) -> bool:
        return self.pack.loader.inside_epoch

    def steps_done(self) -> int:
        return self.pack.done()

    def alive(self) -> list[int]:
        return [row for row in range(len(self.pack)) if row not in self.dead]

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        pack, first = self.pack, self.pack.done()
        scheduled = pack.schedules.numbers(first, len(chunk))
        numbers = pack.numbers(first, scheduled)
        self.rates = scheduled["lr"].reshape(len(chunk), len(pack.seeds), -1)[..., 0]
        terms = []
        for number, rows in enumerate(chunk):
            self._progress.increment_ready()
            terms.append(pack.step(rows, numbers[number]))
            self._progress.increment_completed()
            if signals.stop_signal():
                break
        self.interrupted = signals.stop_signal()
        table = torch.stack(terms, 1)  # [terms, steps, members]
        for row, error in self._finite.check(table, first, self.rates[:, pack.job_indices]).items():
            if row not in self.dead:
                self.fail(row, error)
        self._terms.add(
            dict(zip(_numbers(table), table, strict=True)), [rows.shape[-1] for rows in chunk[: len(terms)]]
        )

    def fail(self, row: int, error: Diverged) -> None:
        self.dead.add(row)
        self.failures[self.pack.job_indices[row]] = error

    def drop(self, rows: Sequence[int]) -> None:
        self.dead |= set(rows)

    def begin_measuring(self, data: Sequence[DataSet], settings: MeasureSettings, state: Any) -> None:
        self.pack.to(self.device)
        self.measurement = PackMeasurement(data, settings, self.pack.stack.device, self.pack.dtype)
        self.measurement.begin(self.pack, state)

    def measure(self, epoch: int = 1, last: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.measurement.gap(self.pack, epoch, last), self.measurement.weights(self.pack, epoch, last)

    def measured_state(self, row: int) -> dict[str, Any]:
        return self.measurement.member(self.pack, row)

    def last_rate(self, row: int) -> float:
        return float(self.rates[-1, self.pack.job_indices[row]])

    def stopped(self, metrics: Mapping[str, Tensor]) -> list[int]:
        stops = self.pack.stop(metrics).tolist() if self.pack.base.cocktail.stops else []
        return [row for row, stop in enumerate(stops) if stop]

    def observe(self, metrics: Mapping[str, Tensor]) -> None:
        self.pack.schedules.observe(self.pack.job_indices, metrics)

    def polish(self) -> str:
        return ""  # ``trainer.polish_steps`` is for jobs that train alone

    def mean_terms(self) -> dict[str, Tensor]:
        return {f"objective/{self.pack.terms[int(number)]}": mean for number, mean in self._terms.take().items()}

    def compact(self) -> None:
        """Free what the dead rows take.

        Two rows stay at least, since a pack of one would round differently. A pack that is
        compiled, or to be, is made anew only when half of it is dead: compiling again takes longer
        than what a few dead rows cost.
        """
        rows = self.alive()
        spare = [row for row in range(len(self.pack)) if row in self.dead]
        kept = sorted(rows + spare[: max(0, 2 - len(rows))])
        expensive = self.pack.compiled or self.pack.compiling
        if len(kept) == len(self.pack) or (expensive and 2 * len(kept) > len(self.pack)):
            return
        self.pack.keep(kept)
        self.measurement.keep(kept)
        self._terms.keep(kept)
        self.dead = {position for position, row in enumerate(kept) if row in self.dead}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        pack = self.pack
        checkpoint["pack"] = {
            "stack": pack.stack.state_dict(),
            "places": list(pack.job_indices),
            "dead": sorted(self.dead),
            "terms": self._terms.state_dict(),
            "schedules": pack.schedules.state_dict(),
            "compiled": pack.compiled,
            "compiling": pack.compiling,
            "ragged": pack.ragged,
            "lowering": dict(pack.lowering),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_loop_state(checkpoint)
        saved = checkpoint["pack"]
        self.pack.keep([self.pack.job_indices.index(job_index) for job_index in saved["places"]])
        self.pack.base.cocktail.complete(saved["stack"]["buffers"])
        self.pack.stack.load_state_dict(saved["stack"])
        self.pack.schedules.load_state_dict(saved.get("schedules", ()), self.pack.done())
        compile_disabled = self.pack.settings.compile is False
        if compile_disabled and saved["compiled"] and self.pack.done():
            _log.warning("compile=false: this pack was compiled until here, and rounds differently from here on")
        chosen = (saved["compiled"], saved["ragged"], saved.get("compiling", False))
        compiled, ragged, compiling = (False, False, False) if compile_disabled else chosen
        self.pack.choose(compiled, saved["lowering"], ragged, compiling)
        self.dead = set(saved["dead"])
        self._terms.load_state_dict(saved["terms"] if "rows" not in saved else _as_term_sums(saved))


def _numbers(terms: Sequence[Tensor] | Tensor) -> list[str]:
    return [str(number) for number in range(len(terms))]


def _as_term_sums(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of ``TermSums`` from an older checkpoint, which has tables
    ``[steps, terms, members]``.
    """
    table = torch.cat(saved["terms"]).unbind(1) if saved["rows"] else ()
    return {"values": dict(zip(_numbers(table), table, strict=True)), "rows": saved["rows"]}

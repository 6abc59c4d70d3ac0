"""What the laws of fused training share: jobs trained together and each alone, without measuring."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import laws_harness as harness
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reglab.config.instantiate import locate
from reglab.config.pack_settings import PackSettings
from reglab.data import DataSet
from reglab.optimizers import rule_for
from reglab.rng import counter_rng
from reglab.training.experiment import Experiment
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import member_state
from reglab.training.loader import Steps
from reglab.training.solo import Solo
from reglab.training.trainer import build_trainer, quiet_lightning

SGD = {"_target_": "torch.optim.SGD", "lr": 0.05}
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}
BATCH, STEPS_AN_EPOCH = 11, 4  # of the laws' 44 rows
MEASURED = ("waited", "best")  # state of what is measured after an epoch, which does not happen here


def net(seed: int = 0, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return the laws' small net, with BatchNorm and a dropout of the user's own.

    bias: of the linear map before BatchNorm. Its true gradient is 0, and Adam divides what rounding makes of it by its
    own size: steps as large as any other, in directions that rounding chose, in every run others.
    """
    model = harness.small_model(dtype, seed)
    if not bias:
        model[0].register_parameter("bias", None)
    return model


def job(
    regularizers: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    model: nn.Module | None = None,
    optimizer: Mapping[str, Any] | None = None,
    epochs: int = 25,
    precision: str = "64-true",
    data: DataSet | None = None,
    **recipe: Any,
) -> Experiment:
    """Return a job of 100 steps in float64, or as changed; ``recipe`` changes the fields of its recipe."""
    made = harness.experiment(
        regularizers or {},
        model=model or net(seed),
        optimizer=optimizer or SGD,
        epochs=epochs,
        batch_size=BATCH,
        steps_per_batch=STEPS_AN_EPOCH,
        seed=seed,
        trainer={"precision": precision},
    )
    return replace(made, recipe=replace(made.recipe, **recipe), data=data or made.data)


def fitting(names: Sequence[str], optimizer: Mapping[str, Any]) -> list[str]:
    """Return the methods that fit an optimizer: no proximal steps where it has none."""
    rule = rule_for(locate(optimizer["_target_"], torch.optim.Optimizer, "optimizer"))
    refused = rule is None or rule.refused
    return [name for name in names if not (refused and any(it.proximal for it in harness.members(name).values()))]


def relabelled(seed: int, share: float = 0.3) -> DataSet:
    """Return the laws' data with a share of the training targets replaced, and a digest of its own."""
    data = harness.blobs()
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(harness.ROWS, generator=generator) < share
    drawn = torch.randint(0, harness.CLASSES, (harness.ROWS,), generator=generator)
    train = replace(data.train, targets=torch.where(wrong, drawn, data.train.targets), corrupted=wrong)
    return replace(data, train=train, digest=f"{seed:064d}")


def reshaped(shape: tuple[int, ...]) -> DataSet:
    """Return the laws' data, each example of another shape."""
    whole, parts = harness.blobs(), {}
    for name in ("train", "val", "test"):
        part = getattr(whole, name)
        parts[name] = replace(part, inputs=part.inputs.reshape(-1, *shape))
    return replace(whole, **parts, input_shape=shape)


def alone(experiment: Experiment, module: type[Solo] = Solo) -> Solo:
    """Return the job trained by the solo engine."""
    if experiment.trainer["precision"] == "64-true":
        experiment.model.double()
    recipe, data = experiment.recipe, experiment.data
    solo = module(experiment.model, experiment.cocktail, data.train, data.criterion, recipe)
    _fit(experiment, solo, [])
    return solo


def together(
    experiments: Sequence[Experiment],
    *callbacks: pl.Callback,
    compiled: bool = False,
    lowering: Mapping[str, str] | None = None,
    resume: Path | None = None,
) -> PackModule:
    """Return the jobs trained as a pack."""
    pack = Pack(experiments, PackSettings(compile_seconds=600.0))  # no clock decides a test
    pack.choose(compiled, lowering or {})
    fused = PackModule(pack)
    _fit(experiments[0], fused, list(callbacks), resume)
    return fused


def _fit(
    experiment: Experiment, module: Solo | PackModule, callbacks: list[pl.Callback], resume: Path | None = None
) -> None:
    with quiet_lightning(), torch.random.fork_rng(devices=[]), suppress(Cut):
        trainer = build_trainer(experiment, [*callbacks, Observed()])
        trainer.fit(module, train_dataloaders=module.loader(), ckpt_path=resume, weights_only=True)


class Observed(pl.Callback):
    """Tells schedules a validation loss after each epoch, as the recorder does: of jobs with an odd seed it falls."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Solo | PackModule) -> None:
        if pl_module.steps_done() and not pl_module.inside_epoch:  # saved before it was measured
            self._observe(pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Solo | PackModule) -> None:
        self._observe(pl_module, trainer.current_epoch + 1)

    def _observe(self, module: Solo | PackModule, epoch: int) -> None:
        if isinstance(module, Solo):
            module.observe({"val/loss": torch.tensor(_loss(int(module.cocktail.keys.seed), epoch))})
        else:
            losses = [_loss(module.pack.seeds[job], epoch) for job in module.job_indices]
            module.observe({"val/loss": torch.tensor(losses)})


def _loss(seed: int, epoch: int) -> float:
    return 1 / epoch if seed % 2 else 1.0


def states(fused: PackModule) -> dict[int, dict[str, Tensor]]:
    """Return what each job of the pack would have in its state dict, by the job's number."""
    pack = fused.pack
    return {job_index: member_state(pack.stack, row, pack.base) for row, job_index in enumerate(pack.job_indices)}


def assert_equals_solo(make: Callable[[int], Experiment], members: int, **options: Any) -> PackModule:
    """Train ``make(0) ... make(members - 1)`` in a pack and alone, and assert the float64 law; return the pack."""
    fused = together([make(number) for number in range(members)], **options)
    for number, state in states(fused).items():
        assert_close(state, alone(make(number)).state_dict(), 1e-8, f"member {number}")
    return fused


def assert_close(state: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float, whose: str) -> None:
    """Assert that no entry of a tensor is off by more than ``tolerance`` times the tensor's largest."""
    assert state.keys() == other.keys()
    for name in other:
        if name.rpartition(".")[2] not in MEASURED:
            mine, right = state[name].double(), other[name].double()
            off = float((mine - right).abs().max() / right.abs().max().clamp(min=1e-300))
            assert off <= tolerance, f"{whose}: {name} is off by {off:.1e}"  # NaN is refused too


def assert_same_stack(first: PackModule, second: PackModule) -> None:
    """Assert that two packs hold the same bits."""
    assert first.pack.job_indices == second.pack.job_indices
    ours, theirs = first.pack.stack.state_dict(), second.pack.stack.state_dict()
    assert ours.keys() == theirs.keys()
    for group in ours:
        harness.assert_same_bits(ours[group], theirs[group])


class SoloPermuted(Solo):
    """The same job, the rows of each batch in another order, by pairs: mixup mixes the two rows of a pair."""

    def loader(self) -> Steps:
        steps = super().loader()
        steps.__class__ = _PermutedSteps
        return steps


class _PermutedSteps(Steps):
    def __iter__(self):
        for number, chunk in enumerate(super().__iter__()):
            yield [_pairs_permuted(rows, number) for rows in chunk]


def _pairs_permuted(rows: Tensor, number: int) -> Tensor:
    even = len(rows) // 2 * 2
    order = counter_rng.permutation(counter_rng.key(number), even // 2)
    return torch.cat([rows[:even].view(-1, 2)[order].flatten(), rows[even:]])


class Cut(Exception):  # noqa: N818 - it cuts training short, as a kill would
    pass


class SaveAt(pl.Callback):
    """Saves a checkpoint after so many steps, and ends training there if asked to."""

    def __init__(self, step: int, path: Path, end: bool = True) -> None:
        self.step, self.path, self.end = step, path, end

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.pack.done() == self.step:
            trainer.save_checkpoint(self.path)
            if self.end:
                raise Cut


class EndAt(pl.Callback):
    """Declares jobs ended after so many epochs, as a launcher does whose jobs stop early, and compacts the pack."""

    def __init__(self, ended: Mapping[int, Sequence[int]]) -> None:
        self.ended = ended

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        jobs = pl_module.pack.experiments
        pl_module.begin_measuring([job.data for job in jobs], jobs[0].measure, None)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        job_indices = self.ended.get(trainer.current_epoch + 1, ())
        pl_module.mean_terms()
        pl_module.drop([pl_module.job_indices.index(job_index) for job_index in job_indices])
        pl_module.compact()

"""model=lightning: a LightningModule trains by its own steps, as with Lightning's own Trainer, and is recorded."""

import functools
import os
import warnings
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import nn

from reglab.core.errors import CodeFailed, UserError
from reglab.tracking.run_state import read_state
from reglab.training import restore
from reglab.training.trainer import quiet_lightning
from training.job_case import Case
from training.lightning import own_project
from training.lightning.module_case import Cut, Run, composed, rows, state
from training.lightning.own_project import CLASSES, INPUTS, Classifier, Net, Points, PointsModule

PROJECT = "training.lightning.own_project"
EPOCHS = 4
ADAM = "+model.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.02}"
STEP = "+model.scheduler={_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1, gamma: 0.5}"
PLATEAU = "+model.scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true, T_max: 3}"
NET = "+model.net={_target_: " + PROJECT + ".Net, width: 8}"
OWN = (
    "model=lightning",
    f"model._target_={PROJECT}.Classifier",
    NET,
    ADAM,
    STEP,
    "data=lightning",
    f"data._target_={PROJECT}.PointsModule",
    "tracking=none",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.checkpoint_seconds=0",
)


def bare(seed: int = 0, **given: Any) -> Classifier:
    """Train the same with Lightning alone, as its documentation says."""
    with torch.random.fork_rng(), quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        pl.seed_everything(seed, workers=True, verbose=False)
        data = PointsModule(**given)
        module = Classifier(
            net=Net(8),
            optimizer=functools.partial(torch.optim.Adam, lr=0.02),
            scheduler=functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
        )
        trainer = pl.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    return module


def test_without_regularizers_it_ends_with_the_bits_of_lightning_alone(run: Run, case: Case) -> None:
    assert run(*OWN).status == "FINISHED"
    wanted = bare().state_dict()
    found = state(case.folder / "it")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_the_seed_decides(run: Run, case: Case) -> None:
    run(*OWN, "seed=3", folder="three")
    wanted = bare(seed=3).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in state(case.folder / "three").items())
    run(*OWN, folder="zero")
    assert not torch.equal(state(case.folder / "zero")["net.layers.0.weight"], wanted["net.layers.0.weight"])


def test_both_sides_of_the_gap_are_the_modules_own_validation_step(run: Run, case: Case) -> None:
    result = run(*OWN, "+data.batch_size=6", "+data.jitter=false")
    module: Any = restore.load(case.folder / "it")
    module.load_state_dict(state(case.folder / "it"))
    module.eval()
    for side, part in (("train", Points(96, 1, jitter=False)), ("val", Points(64, 2, jitter=False))):
        with torch.no_grad():
            outputs = module(part.inputs)
            batches = zip(outputs.split(6), part.labels.split(6), strict=True)
            # The module logs a MeanMetric of batch losses, which counts batches alike.
            loss = torch.stack([nn.functional.cross_entropy(*batch) for batch in batches]).mean()
        assert result.metrics[f"{side}/loss"] == pytest.approx(float(loss), rel=1e-5)
        accuracy = (outputs.argmax(1) == part.labels).float().mean()
        assert result.metrics[f"{side}/acc"] == pytest.approx(float(accuracy), rel=1e-6)
    gap = result.metrics["val/loss"] - result.metrics["train/loss"]
    assert result.metrics["gap/loss"] == pytest.approx(gap)
    assert result.metrics["gap/acc"] == pytest.approx(result.metrics["train/acc"] - result.metrics["val/acc"])
    assert result.metrics["gap/loss_low"] < gap < result.metrics["gap/loss_high"]


@pytest.mark.parametrize("task", ["ordinal", f"{PROJECT}.ByLevels"])
def test_any_task_judges_its_outputs(run: Run, case: Case, task: str) -> None:
    given = [word for word in OWN if not word.startswith(("+model", "model._target_"))]
    own = (f"model._target_={PROJECT}.Ordered", f"+model.inputs={INPUTS}", f"+model.outputs={CLASSES - 1}")
    result = run(*given, *own, f"data.task={task}", "measure.scores=[auroc]", "measure.monitor=val/mae")
    module: Any = restore.load(case.folder / "it", weights="last")
    part = Points(64, 2, jitter=False)
    with torch.no_grad():
        levels = (module(part.inputs).sigmoid().cumprod(1) > 0.5).sum(1)
    measured = rows(case.folder / "it")
    assert measured["val/mae", EPOCHS] == [pytest.approx(float((levels - part.labels).abs().double().mean()))]
    assert result.metrics["gap/mae_low"] < result.metrics["gap/mae"] < result.metrics["gap/mae_high"]
    assert {"val/auroc", "gap/accuracy_low"} <= result.metrics.keys()


def test_what_the_module_logs_is_recorded_each_epoch(run: Run, case: Case) -> None:
    run(*OWN)
    recorded = rows(case.folder / "it")
    for name in ("train/loss", "val/loss", "val/acc", "val/acc_best", "lr"):
        assert [epoch for key, epoch in recorded if key == f"logged/{name}"] == list(range(1, EPOCHS + 1))
    assert [recorded["logged/lr", epoch] for epoch in (1, 2)] == [[pytest.approx(0.01)], [pytest.approx(0.005)]]
    # Measuring the training side moves none of the module's own metrics.
    best = [recorded["logged/val/acc_best", epoch][0] for epoch in range(1, EPOCHS + 1)]
    accuracy = [recorded["logged/val/acc", epoch][0] for epoch in range(1, EPOCHS + 1)]
    assert best == [max(accuracy[: epoch + 1]) for epoch in range(EPOCHS)]


def test_what_is_logged_by_the_logger_is_recorded_too(run: Run, case: Case) -> None:
    given = ("data=wine", "model=lightning", "tracking=none", "trainer.max_epochs=2")
    run(*given, f"model._target_={PROJECT}.ByHand")
    recorded = rows(case.folder / "it")
    assert recorded["logged/acc_5", 2] == [1.0]  # MLflow takes no @
    assert [recorded["logged/mine", epoch] for epoch in (1, 2)] == [[0.0], [1.0]]
    assert (case.folder / "it" / "mine.txt").read_text() == "mine"
    with pytest.raises(CodeFailed, match=r"self\.log or self\.logger\.log_metrics"):
        run(*given, f"model._target_={PROJECT}.Experimenting", folder="other")


@pytest.mark.parametrize("schedule", [STEP, PLATEAU])
@pytest.mark.parametrize("methods", ["none", "[l1,ema]", "[dropout,early_stopping]"])
def test_a_run_that_was_cut_ends_as_if_it_never_had_been(run: Run, case: Case, methods: str, schedule: str) -> None:
    given = [*(word for word in OWN if word != STEP), schedule, f"regularizer={methods}"]
    run(*given, folder="whole")
    with pytest.raises(Cut):
        run(*given, folder="cut", cut=3)
    assert run(*given, folder="cut").status == "FINISHED"
    whole, cut = state(case.folder / "whole"), state(case.folder / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    assert rows(case.folder / "cut") == rows(case.folder / "whole")


@pytest.mark.parametrize("methods", ["none", "[early_stopping]"])
def test_a_run_that_died_as_it_ended_has_its_result_when_it_is_resumed(run: Run, case: Case, methods: str) -> None:
    result = run(*OWN, f"regularizer={methods}")
    ended = read_state(case.folder / "it")
    assert ended is not None
    assert run(*OWN, f"regularizer={methods}", resume=ended).metrics == result.metrics


def test_a_finished_run_is_trained_longer(run: Run, case: Case) -> None:
    run(*OWN, folder="whole")
    short = [word for word in OWN if not word.startswith("trainer.max_epochs")]
    run(*short, "trainer.max_epochs=2", folder="extended")
    ended = read_state(case.folder / "extended")
    assert run(*OWN, folder="extended", resume=ended).status == "FINISHED"
    whole, extended = state(case.folder / "whole"), state(case.folder / "extended")
    assert all(torch.equal(value, extended[name]) for name, value in whole.items())
    recorded = rows(case.folder / "extended")
    assert {key: value for key, value in rows(case.folder / "whole").items() if key[1] in (1, 3, 4)}.items() <= (
        recorded.items()
    )


def test_metrics_that_no_state_dict_holds_are_resumed(run: Run, case: Case) -> None:
    falling = [word for word in OWN if not word.startswith("+model.optimizer") and word != STEP]
    fast = "+model.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 10.0}"  # later epochs are worse
    run(*falling, fast, folder="whole")
    with pytest.raises(Cut):
        run(*falling, fast, folder="cut", cut=3)
    run(*falling, fast, folder="cut")
    whole, cut = (rows(case.folder / name) for name in ("whole", "cut"))
    for epoch in range(1, EPOCHS + 1):
        assert cut["logged/val/acc_best", epoch] == whole["logged/val/acc_best", epoch]
    best = [whole["logged/val/acc_best", epoch][0] for epoch in range(1, EPOCHS + 1)]
    last = [whole["logged/val/acc", epoch][0] for epoch in range(1, EPOCHS + 1)]
    assert best[-1] > max(last[2:])  # what the resumed epochs alone would give


def test_a_signal_ends_it_after_its_step_and_it_resumes(run: Run, case: Case) -> None:
    run(*OWN, "+model.signal_at=null", folder="whole")
    assert run(*OWN, "+model.signal_at=14", folder="cut").status == "KILLED"
    resumed = read_state(case.folder / "cut")
    assert resumed is not None
    assert run(*OWN, "+model.signal_at=null", folder="cut", resume=resumed).status == "FINISHED"
    whole, cut = state(case.folder / "whole"), state(case.folder / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    assert rows(case.folder / "cut") == rows(case.folder / "whole")


def test_workers_of_a_loader_draw_the_same_after_a_resume(run: Run, case: Case) -> None:
    run(*OWN, "+data.num_workers=1", folder="whole")
    with pytest.raises(Cut):
        run(*OWN, "+data.num_workers=1", folder="cut", cut=2)
    run(*OWN, "+data.num_workers=1", folder="cut")
    whole, cut = state(case.folder / "whole"), state(case.folder / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_l1_gives_exact_zeros_and_its_penalty_is_recorded(run: Run, case: Case) -> None:
    result = run(*OWN, "regularizer=[l1]", "regularizer.l1.strength=0.3")
    zeros = float((state(case.folder / "it")["net.layers.0.weight"] == 0).double().mean())
    assert zeros > 0.3
    assert result.metrics["weights/zeros"] > 0.3


def test_early_stopping_stands_for_the_best_epoch(run: Run, case: Case) -> None:
    given = [*(word for word in OWN if not word.startswith("+model.optimizer") and word != STEP)]
    fast = "+model.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 3.0}"
    result = run(*given, fast, "regularizer=[early_stopping]", "regularizer.early_stopping.patience=1",
                 "trainer.max_epochs=12")  # fmt: skip
    recorded = rows(case.folder / "it")
    losses = {epoch: value[0] for (key, epoch), value in recorded.items() if key == "val/loss" and epoch}
    assert len(losses) < 12
    best = min(losses, key=lambda epoch: losses[epoch])
    assert result.metrics["epoch"] == best
    assert result.metrics["val/loss"] == losses[best]


def test_our_data_sets_give_the_task_by_which_it_is_measured(run: Run, case: Case) -> None:
    result = run(
        "data=wine", "model=lightning", f"model._target_={PROJECT}.Simple", "tracking=none", "trainer.max_epochs=2"
    )
    module = restore.load(case.folder / "it")
    from reglab import data

    wine = data.load({**OmegaConf.to_container(composed("data=wine").data)})  # type: ignore[dict-item]  # a mapping
    with torch.no_grad():
        outputs = module(wine.val.inputs)
    loss = nn.functional.cross_entropy(outputs, wine.val.targets)
    assert result.metrics["val/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert result.metrics["val/accuracy"] == pytest.approx(
        float((outputs.argmax(1) == wine.val.targets).float().mean())
    )
    assert "gap/loss_low" in result.metrics


def test_manual_optimization_trains_as_automatic_does(run: Run, case: Case) -> None:
    for name in ("Simple", "Manual"):
        given = ("data=wine", "model=lightning", f"model._target_={PROJECT}.{name}", "trainer.max_epochs=3")
        run(*given, "tracking=none", "regularizer=[l2]", folder=name)
    simple, manual = state(case.folder / "Simple"), state(case.folder / "Manual")
    assert all(torch.allclose(value, manual[name], atol=1e-6) for name, value in simple.items())


def test_the_test_part_is_measured_by_its_own_step(run: Run, case: Case) -> None:
    result = run(*OWN, "measure.test=true")
    module = restore.load(case.folder / "it")
    part = Points(64, 3, jitter=False)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(module(part.inputs), part.labels)
    assert result.metrics["test/loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_checkpoint_holds_plain_data_alone(run: Run, case: Case) -> None:
    run(*OWN)
    for name in ("last", "best"):
        content = torch.load(case.folder / "it" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["hyper_parameters"]["config"]["model"]["_target_"] == f"{PROJECT}.Classifier"


def test_generators_and_environment_are_afterwards_what_they_were(
    run: Run, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    run(*OWN)
    assert torch.equal(torch.rand(1), wanted)
    assert "PL_GLOBAL_SEED" not in os.environ


@pytest.mark.parametrize(
    "overrides, told",
    [
        (("measure.scores=[auroc]",), "measure.scores are scores of a task: give data.task too"),
        (("loss=training.lightning.own_project.f",), "loss has no effect with model=lightning"),
        (("optimizer=adam",), "optimizer._target_ has no effect with model=lightning"),
        (("scheduler=cosine",), "scheduler._target_ has no effect with model=lightning"),
        (("trainer.polish_steps=3",), "trainer.polish_steps=3 has no effect with model=lightning"),
        (("trainer.compile=true",), "trainer.compile=True has no effect with model=lightning"),
        (("trainer.steps_per_batch=4",), "trainer.steps_per_batch=4 has no effect with model=lightning"),
        (("trainer.strategy=fsdp",), "trainer.strategy=fsdp is not known"),
        (("trainer.max_epochs=null",), "trainer.max_epochs=None must be an integer"),
        (("+trainer.gradient_clip_val=1", "trainer.gradient_clip_norm=1"), "are the same here"),
        (("regularizer=[sam]",), "a second gradient at other weights"),
        (("regularizer=[mixup]",), "the batch and its loss"),
        (("seed=5000000000",), "the largest is 4294967295"),
        (("loss=torch.nn.HuberLoss",), "loss has no effect with model=lightning"),
        (("data.task=clasification",), "data.task=clasification is unknown; did you mean 'classification'"),
        (("+data.batchsize=3",), "PointsModule has no such argument; did you mean 'batch_size'"),
        (("+model.nett=3",), "Classifier has no such argument; did you mean 'net'"),
        ((f"data._target_={PROJECT}.Net",), "is no LightningDataModule"),
        ((f"model._target_={PROJECT}.Net",), "is no LightningModule"),
        (("+model.optimizer.lrr=3",), "model.optimizer.lrr: Adam has no such argument; did you mean 'lr'"),
        (("+model.optimizer._args_=[1]",), "give arguments by their names"),
        (("+trainer.limit_val_batches=-1",), "trainer: "),
        (("+trainer.check_val_every_n_epoch=1.5",), "trainer: "),
        (("sweep.path=up",), "sweep.path has no effect with model=lightning"),
        (("+model.net.wdth=3",), "Net has no such argument; did you mean 'width'"),
        (("model.net._target_=training.lightning.own_project.Nett",), "has no 'Nett'; did you mean 'Net'"),
        (("model.net._target_=os.system",), "a configuration may not name anything in Python's module os"),
        (("model.net._target_=torch.hub.load",), "is not trusted to be imported by a configuration"),
        (("model.net._target_=training.lightning.own_project.np.load",), "own_project"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_refused_before_a_run_is_opened(
    run: Run, case: Case, overrides: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError) as raised:
        run(*OWN, *overrides)
    assert told in str(raised.value)
    assert not (case.folder / "it").exists()


def test_a_step_without_a_loss_is_told(run: Run, case: Case) -> None:
    given = [word for word in OWN if not word.startswith(("+model", "model._target_"))]
    with pytest.raises(UserError, match=r"Silent\.validation_step neither returns nor logs a loss"):
        run(*given, f"model._target_={PROJECT}.Silent", f"+model.inputs={INPUTS}", f"+model.outputs={CLASSES}")


def test_a_monitor_that_is_not_measured_is_told_before_the_first_step(run: Run, case: Case) -> None:
    with pytest.raises(UserError, match=r"val/acy is not among what is measured \(.*did you mean 'val/acc'"):
        run(*OWN, "measure.monitor=val/acy")


@pytest.mark.parametrize("monitor, sign", [("val/acc", -1), ("val/loss", 1)])
def test_the_best_epoch_goes_by_the_monitor_and_its_direction(run: Run, case: Case, monitor: str, sign: int) -> None:
    run(*OWN, "trainer.max_epochs=8", f"measure.monitor={monitor}")
    values = {epoch: value[0] for (key, epoch), value in rows(case.folder / "it").items() if key == monitor and epoch}
    best = torch.load(case.folder / "it" / "checkpoints" / "best.ckpt", weights_only=True)
    first = min(values, key=lambda epoch: (sign * values[epoch], epoch))
    assert best["epoch"] == first


def test_measuring_leaves_no_trace_in_what_a_module_keeps_of_its_steps(run: Run, case: Case) -> None:
    given = ("data=wine", "model=lightning", f"model._target_={PROJECT}.Keeping", "tracking=none")
    run(*given, "trainer.max_epochs=3", "+trainer.num_sanity_val_steps=0")
    recorded = rows(case.folder / "it")
    batches = 2  # of 35 rows
    for epoch in (1, 2, 3):
        for name in ("outputs", "steps", "count", "seen", "nested"):
            assert recorded[f"logged/kept/{name}", epoch] == [batches], (name, epoch)
        assert recorded["logged/kept/total", epoch] == [pytest.approx(0, abs=1e-6)]
        assert recorded["logged/val/batches", epoch] == [batches]
        assert recorded["logged/by_hand", epoch] == [batches]


def test_row_weights_are_refused_which_a_step_knows_nothing_of(run: Run, case: Case) -> None:
    with pytest.raises(UserError, match=r"data\.class_weight and data\.sample_weight have no effect"):
        run("data=wine", "data.class_weight=balanced", "model=lightning", f"model._target_={PROJECT}.Simple")


def test_batches_that_a_step_changes_are_measured_alike_each_time(run: Run, case: Case) -> None:
    for name in ("Changing", "Plain"):
        run("model=lightning", f"model._target_={PROJECT}.{name}", *OWN[5:], f"+model.inputs={INPUTS}", folder=name)
    changing, plain = (rows(case.folder / name) for name in ("Changing", "Plain"))
    for epoch in range(EPOCHS + 1):
        for key in ("train/loss", "val/loss"):
            assert changing[key, epoch] == plain[key, epoch]


def test_the_last_epoch_is_measured_where_steps_end_training(run: Run, case: Case) -> None:
    result = run(*OWN, "trainer.max_epochs=50", "+trainer.max_steps=18", "measure.every=2")  # 6 steps an epoch
    recorded = rows(case.folder / "it")
    assert [epoch for key, epoch in recorded if key == "val/loss"] == [0, 2, 3]
    assert result.metrics["val/loss"] == recorded["val/loss", 3][0]


def test_directions_are_those_that_metrics_and_names_tell(run: Run, case: Case) -> None:
    given = (*OWN[5:], f"+model.inputs={INPUTS}", "trainer.max_epochs=2")
    result = run("model=lightning", f"model._target_={PROJECT}.Directed", *given)
    for name, lower in (("MeanSquaredError", True), ("MSE", True), ("MulticlassAccuracy", False), ("Top", False)):
        train, val = result.metrics[f"train/{name}"], result.metrics[f"val/{name}"]
        assert result.metrics[f"gap/{name}"] == pytest.approx(val - train if lower else train - val), name


def test_its_module_is_named(run: Run) -> None:
    assert own_project.__name__ == PROJECT

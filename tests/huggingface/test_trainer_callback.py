"""``TransformersCallback`` in ``transformers.Trainer``: steps as by hand, no bit moved otherwise, resumed."""

import copy
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import reglab
from reglab.core.errors import UserError
from reglab.tracking.run_state import read_state

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "accelerate")),
    reason="transformers and accelerate are not installed: they are an extra",
)
ROWS, FEATURES, MICROBATCH, ACCUMULATED = 48, 5, 4, 3
Rows = list[dict[str, Tensor]]


class Net(nn.Module):
    """A model in the manner of transformers, which knows nothing of reglab."""

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            inner = [nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Dropout(0.2)] if hidden else []
            self.net = nn.Sequential(*inner, nn.Linear(hidden or FEATURES, 1)).double()

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(inputs).squeeze(-1)
        given = {"logits": logits}
        return given if labels is None else {"loss": functional.mse_loss(logits, labels), **given}


def parts() -> tuple[Rows, Rows]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * ROWS, FEATURES, generator=generator, dtype=torch.float64)
    labels = inputs @ torch.arange(FEATURES, dtype=torch.float64) + torch.randn(2 * ROWS, generator=generator)
    rows = [{"inputs": row, "labels": label} for row, label in zip(inputs, labels, strict=True)]
    return rows[:ROWS], rows[ROWS:]


def trained(folder: Path, model: nn.Module, callbacks: list[Any], resume: Any = None, **changed: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    options: dict[str, Any] = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": MICROBATCH,
        "per_device_eval_batch_size": 16,
        "gradient_accumulation_steps": ACCUMULATED,
        "learning_rate": 0.05,
        "optim": "adamw_torch",
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    train, val = parts()
    args = TrainingArguments(str(folder), **{**options, **changed})
    trainer = Trainer(model, args, train_dataset=train, eval_dataset=val, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def same(model: nn.Module, other: nn.Module) -> bool:
    wanted = other.state_dict()
    return all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


@installed
@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_steps_are_those_of_a_loop_by_hand(tmp_path: Path, limit: float) -> None:
    model, mine = Net(), Net()
    callback = reglab.TransformersCallback([reglab.L2(0.1), reglab.L1(0.2), reglab.WeightDecay(0.3)], "regression")
    options = {"optim": "sgd", "max_grad_norm": limit, "train_sampling_strategy": "sequential"}
    trainer = trained(tmp_path, model, [callback], lr_scheduler_type="linear", **options)
    assert trainer.args.max_grad_norm == limit
    train, _ = parts()
    weight, bias = mine.net[0].weight, mine.net[0].bias
    step, steps = 0, 3 * ROWS // (MICROBATCH * ACCUMULATED)
    for _ in range(3):
        for first in range(0, ROWS, MICROBATCH * ACCUMULATED):
            rate = 0.05 * (1 - step / steps)
            rows = train[first : first + MICROBATCH * ACCUMULATED]
            inputs, labels = (torch.stack([row[name] for row in rows]) for name in ("inputs", "labels"))
            loss = mine(inputs, labels)["loss"] + 0.1 * weight.square().sum() / 2
            gradients = torch.autograd.grad(loss, [weight, bias])
            norm = torch.cat([each.flatten() for each in gradients]).norm()
            factor = min(1.0, limit / (float(norm) + 1e-6)) if limit else 1.0
            with torch.no_grad():
                weight.mul_(1 - rate * 0.3)
                for each, gradient in zip((weight, bias), gradients, strict=True):
                    each.sub_(rate * factor * gradient)
                weight.copy_(weight.sign() * (weight.abs() - rate * 0.2 * factor).clamp(min=0))
            step += 1
    torch.testing.assert_close(model.state_dict(), mine.state_dict(), rtol=1e-10, atol=1e-10)


def test_its_events_take_the_steps_of_attach(tmp_path: Path) -> None:
    """Without transformers: the events that Trainer calls in a step, by hand."""
    values: dict[str, Any] = {"fsdp": None, "deepspeed": None, "n_gpu": 1, "fp16": False, "seed": 0, "world_size": 1}
    values |= {
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "torch_compile": False,
        "eval_strategy": "epoch",
    }
    args = SimpleNamespace(**values, max_grad_norm=0.5, output_dir=str(tmp_path))
    state = SimpleNamespace(is_hyper_param_search=False, global_step=0, is_world_process_zero=True)
    control = SimpleNamespace(should_evaluate=False)
    models = [Net(8), Net(8)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.05) for model in models]
    members = [reglab.L1(0.1), reglab.L2(0.2)]
    callback = reglab.TransformersCallback(copy.deepcopy(members), "regression")
    callback.on_init_end(args, state, control)
    callback.on_train_begin(args, state, control, models[0], optimizers[0])
    attached = reglab.attach(models[1], optimizers[1], members, "regression")
    for row in parts()[0][:8]:
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            if model is models[0]:
                callback.on_step_begin(args, state, control)
                assert args.max_grad_norm == 0  # Trainer clips nothing
            model(row["inputs"][None], row["labels"][None])["loss"].backward()
            if model is models[0]:
                callback.on_pre_optimizer_step(args, state, control)
            else:
                attached.clip_grad_norm_(0.5)
            optimizer.step()
    assert args.max_grad_norm == 0.5
    assert same(*models)


@installed
def test_without_regularizers_training_has_the_bits_of_the_plain_trainer(tmp_path: Path) -> None:
    models = [Net(8), Net(8)]
    plain = trained(tmp_path, models[0], [])
    callback = reglab.TransformersCallback([], "regression", scores=["mae"])
    measured = trained(tmp_path, models[1], [callback])
    assert same(*models)
    norms = [[row.get("grad_norm") for row in each.state.log_history] for each in (plain, measured)]
    assert [norm for norm in norms[1] if norm] == [norm for norm in norms[0] if norm]
    assert len(callback.history) == 3


@installed
def test_both_sides_are_measured_with_averaged_weights(tmp_path: Path) -> None:
    callback = reglab.TransformersCallback([reglab.EMA(0.9)], "regression")
    model = Net(8)
    trainer = trained(tmp_path, model, [callback], metric_for_best_model="gap/loss", save_strategy="best")
    model.eval()
    losses = []
    with callback.evaluating(), torch.no_grad():
        for part in parts():
            losses.append(float(model(*(torch.stack([row[name] for row in part]) for name in part[0]))["loss"]))
    assert callback.metrics["train/loss"] == pytest.approx(losses[0])
    assert callback.metrics["val/loss"] == pytest.approx(losses[1])
    assert callback.metrics["gap/loss_low"] < losses[1] - losses[0] < callback.metrics["gap/loss_high"]
    evaluated = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert evaluated == pytest.approx([row["val/loss"] for row in callback.history])
    assert trainer.state.best_metric == min(row["gap/loss"] for row in callback.history)


@installed
@pytest.mark.parametrize("checkpoint", ["checkpoint-4", "checkpoint-6"])  # at the end of an epoch, and inside one
def test_a_resumed_training_has_the_bits_of_one_that_was_never_stopped(tmp_path: Path, checkpoint: str) -> None:
    members = [reglab.L1(0.05), reglab.EMA(0.9), reglab.Dropout(0.3)]
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "seed": 3}
    callbacks = [reglab.TransformersCallback(copy.deepcopy(members), "regression") for _ in range(2)]
    models = [Net(8), Net(8)]
    trained(tmp_path, models[0], [callbacks[0]], **options)
    trained(tmp_path, models[1], [callbacks[1]], str(tmp_path / checkpoint), **options)
    assert same(*models)
    assert callbacks[1].metrics == callbacks[0].metrics


@installed
def test_a_checkpoint_saved_without_the_callback_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, Net(), [], save_strategy="epoch", num_train_epochs=1)
    callback = reglab.TransformersCallback([reglab.EMA(0.9)], "regression")
    with pytest.raises(UserError, match="saved without this callback"):
        trained(tmp_path, Net(), [callback], True)


@installed
def test_the_run_holds_what_was_measured_and_is_continued_on_resume(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri, out = f"sqlite:///{tmp_path / 'reglab.db'}", tmp_path / "out"
    callbacks = [reglab.TransformersCallback([reglab.L1(0.01)], "regression", tracking=uri) for _ in range(2)]
    trained(out, Net(), [callbacks[0]], save_strategy="epoch")
    trained(out, Net(), [callbacks[1]], str(out / "checkpoint-8"), save_strategy="epoch")
    assert callbacks[1].run_id == callbacks[0].run_id
    run = MlflowClient(uri).get_run(callbacks[0].run_id or "")
    assert run.info.status == "FINISHED"
    assert run.data.tags["reglab.regularizer"] == "l1"
    assert run.data.tags["reglab.score"] == "r2"
    assert run.data.metrics["gap/loss"] == run.data.metrics["final/gap/loss"] == callbacks[1].metrics["gap/loss"]
    assert run.data.params["regularizer.l1.strength"] == "0.01"
    state = read_state(out / "reglab")
    assert state is not None
    assert state.results["epoch"] == 3


@installed
def test_early_stopping_ends_the_training(tmp_path: Path) -> None:
    callback = reglab.TransformersCallback([reglab.EarlyStopping(patience=1)])
    trainer = trained(tmp_path, Net(), [callback], learning_rate=5.0, num_train_epochs=20)
    assert trainer.state.global_step < trainer.state.max_steps
    assert "gap/loss_low" not in callback.metrics  # the model's own loss is one of a batch


@installed
@pytest.mark.parametrize(
    "changed, told",
    [
        ({"activation_checkpointing": True}, "would draw other numbers"),
        ({"torch_compile": True}, "does not take the draws of dropout"),
        ({"fsdp": True}, "needs whole weights"),
    ],
)
def test_what_does_not_fit_the_arguments_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    from transformers import TrainerState, TrainingArguments

    callback = reglab.TransformersCallback([reglab.L2(0.1)], "regression")
    args = TrainingArguments(str(tmp_path), use_cpu=True, **changed)
    model = Net(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match=told):
        callback.on_train_begin(args, TrainerState(), None, model, optimizer)


@installed
def test_a_training_without_evaluation_says_that_no_gap_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tmp_path, Net(), [reglab.TransformersCallback([], "regression")], eval_strategy="no", num_train_epochs=1)
    assert "no gap is measured" in caplog.text


@pytest.mark.parametrize(
    "given, told",
    [
        ([reglab.SAM(0.1)], "sam needs the batch or the loss of a step, which transformers.Trainer hands to no"),
        ([reglab.Mixup(0.1)], "mixup needs the batch or the loss"),
        (reglab.L1(0.1), "takes a list or a dict of regularizers"),
    ],
)
def test_what_cannot_act_is_refused_by_name(given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        reglab.TransformersCallback(given, "classification")

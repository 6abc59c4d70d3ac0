"""Checks of the arguments of ``transformers.Trainer`` before it trains."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, Dropout
from reglab.regularizers.dropout import KeyedDropout


def check_arguments(args: Any, state: Any, optimizer: Optimizer, regularized: bool) -> None:
    """Raise UserError for a training that cannot be regularized or measured as it is.

    Args:
        args: ``TrainingArguments``.
        state: ``TrainerState``.
        optimizer: Torch's own.
        regularized: Whether there are regularizers.
    """
    for name in ("fsdp", "deepspeed"):
        if getattr(args, name, None):
            raise UserError(
                f"TransformersCallback needs whole weights on each device, which {name}= does not keep; train on one "
                "device, or start the script by torchrun without it"
            )
    if args.n_gpu > 1:
        raise UserError(
            f"Trainer would copy the model to {args.n_gpu} GPUs in one process; start the script by torchrun "
            "--nproc-per-node, or let it see one GPU: CUDA_VISIBLE_DEVICES=0"
        )
    if state.is_hyper_param_search:
        raise UserError(
            "hyperparameter_search trains one model after the other, and a TransformersCallback follows one; sweep by "
            "reglab.sweep, with a new callback in each call"
        )
    if regularized and args.fp16 and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise UserError(
            f"{type(optimizer).__name__}(fused=True) skips steps by itself under fp16, and proximal steps would not "
            "know; use TrainingArguments(bf16=True), or optim='adamw_torch'"
        )


def check_dropout(args: Any, model: nn.Module, cocktail: Cocktail) -> None:
    """Raise UserError where dropout draws in layers that are computed twice a step, which would draw
    other numbers the second time, or that are compiled, which fails.

    Args:
        args: ``TrainingArguments``.
        model: Prepared by the cocktail.
        cocktail: The regularizers.
    """
    own = any(isinstance(module, KeyedDropout) and module.rate > 0 for module in model.modules())
    inserted = any(isinstance(member, Dropout) for _, member in cocktail.named_regularizers())
    if not own and not inserted:
        return
    way_out = "leave it out, or set the model's dropout to 0, such as hidden_dropout_prob=0 in its config"
    if args.gradient_checkpointing:
        raise UserError(
            "activation_checkpointing computes layers twice, and dropout would draw other numbers the second time; "
            + way_out
        )
    if args.torch_compile:
        raise UserError(f"torch_compile does not take the draws of dropout, which depend on the step; {way_out}")

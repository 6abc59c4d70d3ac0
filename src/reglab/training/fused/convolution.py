"""Convolution lowerings under ``vmap``: grouped, unfold with a batched matmul, or a loop."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

from reglab.core.errors import UserError, nearest
from reglab.training.fused.convolution_kernels import Window
from reglab.training.fused.convolution_operators import convolve

LOWERINGS = ("grouped", "unfold", "loop")
DEFAULT = "grouped"  # where nothing was measured: what vmap does by itself
_ROUNDS = 3


def convolution(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    lowering: str,
) -> Tensor:
    """Return one member's convolution in one or two dimensions; under ``vmap``, all members' by the
    lowering.

    ``unfold``: gather what each output position sees, then one matrix product a member, batched.
    ``loop``: the library's own convolution of each member in turn. Both work under ``vmap(grad)``,
    eager and in a compiled full graph, and can be differentiated again in reverse mode; forward
    mode (``jvp``) needs ``grouped``.

    Shapes: inputs [rows, channels, *positions] or without rows; weight [outputs, channels / groups,
    *kernel]; stride, padding and dilation one number a dimension.
    """
    if inputs.dim() < weight.dim():
        return convolution(inputs[None], weight, bias, stride, padding, dilation, groups, lowering)[0]
    if torch.is_autocast_enabled(inputs.device.type):
        inputs, weight = (value.to(torch.get_autocast_dtype(inputs.device.type)) for value in (inputs, weight))
    flat = weight.dim() == 3
    if flat:
        inputs, weight = inputs.unsqueeze(-2), weight.unsqueeze(-2)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    window = Window(*(*stride, *padding, *dilation, groups))
    result: Tensor = convolve(inputs[None], weight[None], window, lowering)[0]
    if flat:
        result = result.squeeze(-2)
    return result if bias is None else result + bias.to(result.dtype).view(-1, *[1] * (result.dim() - 2))


def lower(model: nn.Module, choices: Mapping[str, str]) -> None:
    """Set the lowering of each ``Conv1d`` and ``Conv2d`` of the model, in place.

    Parameters, their names, hooks, copies and ``functional_call`` stay as they are. What is not
    named is grouped, and so is padding that is not zeros, or not the same on both sides.

    Raises:
        UserError: For a path that is no such convolution, or an unknown lowering.
    """
    convolutions = _convolutions(model)
    for path, lowering in choices.items():
        if path not in convolutions:
            raise UserError(f"no Conv1d or Conv2d at {path!r} to lower; {nearest(path, convolutions)}")
        if lowering not in LOWERINGS:
            raise UserError(f"convolution lowering {lowering!r} of {path} is unknown; {nearest(lowering, LOWERINGS)}")
    for path, module in convolutions.items():
        lowering, padding = choices.get(path, DEFAULT), symmetric_padding(module)
        module.__dict__.pop("_conv_forward", None)
        if lowering != "grouped" and padding is not None:
            # A partial without the module in it: a copy of the model must not call the original's.
            # On the instance, which mypy minds, since other convolutions stay as they are.
            shape = {"stride": module.stride, "padding": padding, "dilation": module.dilation, "groups": module.groups}
            module._conv_forward = partial(convolution, **shape, lowering=lowering)  # type: ignore[method-assign, arg-type]  # its place


def symmetric_padding(module: nn.Conv1d | nn.Conv2d) -> tuple[int, ...] | None:
    """Return the zeros on either side of each dimension; None where the padding is of
    another kind.
    """
    if module.padding_mode != "zeros":
        return None
    if not isinstance(module.padding, str):
        return tuple(module.padding)
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    total = [dilation * (size - 1) for size, dilation in zip(module.kernel_size, module.dilation, strict=True)]
    return None if any(extra % 2 for extra in total) else tuple(extra // 2 for extra in total)


def _convolutions(model: nn.Module) -> dict[str, nn.Conv1d | nn.Conv2d]:
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv1d | nn.Conv2d)}


class Layer(NamedTuple):
    """Settings that determine a convolution's time. needs_input_gradient: whether inputs need a
    gradient.
    """

    inputs: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    needs_input_gradient: bool


Timer = Callable[[Layer, str, int, torch.device, torch.dtype], Callable[[], float]]


def layer_timer(
    layer: Layer, lowering: str, members: int, device: torch.device, dtype: torch.dtype
) -> Callable[[], float]:
    """Return a function that runs the layer once, forward and backward, and returns the seconds
    that it took.
    """
    window = (layer.stride, layer.padding, layer.dilation, layer.groups)
    library = functional.conv2d if len(layer.kernel) == 2 else functional.conv1d

    def loss(weight: Tensor, inputs: Tensor) -> Tensor:
        if lowering == "grouped":
            return library(inputs, weight, None, *window).square().sum()
        return convolution(inputs, weight, None, *window, lowering).square().sum()

    run = vmap(grad(loss, argnums=(0, 1) if layer.needs_input_gradient else 0))
    kernel = (layer.outputs, layer.inputs[-len(layer.kernel) - 1] // layer.groups, *layer.kernel)
    weight, inputs = (torch.ones(members, *shape, device=device, dtype=dtype) for shape in (kernel, layer.inputs))

    def seconds() -> float:
        start = time.perf_counter()
        run(weight, inputs)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    return seconds


def choose(
    model: nn.Module,
    members: int,
    inputs_shape: tuple[int, ...],
    device: torch.device | str,
    dtype: torch.dtype,
    seconds: float = 1.0,
    timer: Timer = layer_timer,
) -> dict[str, str]:
    """Return the fastest lowering of each convolution, by module path: medians of alternating runs,
    eager.

    Each distinct convolution (settings and input shape) is measured once, forward and backward,
    vmapped over ``members``; all of them together take about ``seconds``, at least three rounds
    each. The model is not changed.

    Args:
        model: Whose convolutions are to be lowered.
        members: Of the pack.
        inputs_shape: Of a batch, the rows first.
        device: Where they are run.
        dtype: Of weights and inputs.
        seconds: For all measurements together.
        timer: Returns a function that runs a layer once and returns the seconds that it took.
    """
    layers = _recorded(model, inputs_shape, device, dtype)
    fastest = {}
    for layer in sorted(set(layers.values())):
        runs = {each: timer(layer, each, members, torch.device(device), dtype) for each in LOWERINGS}
        fastest[layer] = _fastest(runs, seconds / len(set(layers.values())))
    return {path: fastest[layers[path]] if path in layers else DEFAULT for path in _convolutions(model)}


def _recorded(
    model: nn.Module, inputs_shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> dict[str, Layer]:
    model_copy, layers = copy.deepcopy(model).to(device, dtype).eval(), {}

    def record(path: str, module: nn.Conv1d | nn.Conv2d, inputs: tuple[Any, ...]) -> None:
        padding = symmetric_padding(module)
        if padding is not None:
            shape, channels_and_kernel = (
                tuple(inputs[0].shape),
                (module.out_channels, tuple(module.kernel_size), tuple(module.stride)),
            )
            needs_input_gradient = inputs[0].requires_grad
            layers[path] = Layer(
                shape, *channels_and_kernel, padding, tuple(module.dilation), module.groups, needs_input_gradient
            )

    for path, module in _convolutions(model_copy).items():
        module.register_forward_pre_hook(partial(record, path))
    with torch.enable_grad():
        model_copy(torch.zeros(inputs_shape, device=device, dtype=dtype))
    return layers


def _fastest(runs: Mapping[str, Callable[[], float]], seconds: float) -> str:
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {lowering: [] for lowering in LOWERINGS}
    end = time.perf_counter() + seconds
    while len(taken[DEFAULT]) < _ROUNDS or time.perf_counter() < end:
        for lowering, run in runs.items():
            taken[lowering].append(run())
    return min(LOWERINGS, key=lambda lowering: median(taken[lowering]))

"""What K members of a small CNN with BatchNorm cost fused, in solo steps, for each lowering of the convolutions.

    python scripts/bench/convolutions.py [--members 8] [--rounds 7] [--threads 2] [--compiled]
        [--json out.json]

A step is forward, backward and SGD. Each fused step alternates with an eager solo step, so that a
busy machine slows both; a ratio is of two neighbours, and the median of the rounds is printed with
the smallest and the largest.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from devices_cases import finished
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from reglab.models.cnn import CNN
from reglab.training.fused.convolution import LOWERINGS, choose, lower

CASES = [((32, 64), (1, 8, 8), 64), ((16, 32), (1, 8, 8), 64), ((32, 64), (3, 32, 32), 32), ((16, 32), (3, 32, 32), 64)]
LR = 0.01
CPU = torch.device("cpu")


def network(channels: tuple[int, ...], shape: tuple[int, ...]) -> nn.Module:
    return CNN(channels, norm="batch", inputs=shape, outputs=10)


def solo_step(model: nn.Module, inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()

    return step


def fused_step(models: list[nn.Module], inputs: Tensor, targets: Tensor, compiled: bool) -> Callable[[], None]:
    weights, buffers = stack_module_state(models)
    weights = {name: value.detach() for name, value in weights.items()}

    def member(own: dict[str, Tensor], rest: dict[str, Tensor], rows: Tensor, wanted: Tensor):
        def loss(own: dict[str, Tensor], rest: dict[str, Tensor]):
            rest = {name: value.clone() for name, value in rest.items()}
            return functional.cross_entropy(functional_call(models[0], (own, rest), (rows,)), wanted), rest

        slopes, rest = grad(loss, has_aux=True)(own, rest)
        return {name: value - LR * slopes[name] for name, value in own.items()}, rest

    step = vmap(member)
    if compiled:
        torch.compiler.reset()
        step = torch.compile(step, fullgraph=True, dynamic=False)

    def run() -> None:
        step(weights, buffers, inputs, targets)

    return run


def ratios(fused: Callable[[], None], solo: Callable[[], None], rounds: int) -> list[float]:
    """Return seconds of the fused step over seconds of the solo step beside it, by round."""
    made = []
    for turn in range(rounds + 2):
        taken = []
        for step in (solo, fused):
            start = finished()
            step()
            taken.append(finished() - start)
        if turn >= 2:
            made.append(taken[1] / taken[0])
    return made


def measure(
    case: tuple, members: int, rounds: int, compiled: bool, device: torch.device = CPU
) -> dict[str, list[float]]:
    channels, shape, rows = case
    inputs, targets = torch.randn(members, rows, *shape).to(device), torch.randint(10, (members, rows)).to(device)
    solo = solo_step(network(channels, shape).to(device), inputs[0], targets[0])
    template = network(channels, shape)
    paths = [path for path, module in template.named_modules() if isinstance(module, nn.Conv2d)]
    variants = {name: dict.fromkeys(paths, name) for name in LOWERINGS}
    variants["chosen"] = choose(template, members, (rows, *shape), device, torch.float32)
    print(f"channels {channels}, inputs {shape}, batch {rows}; chosen: {', '.join(variants['chosen'].values())}")
    made = {}
    for name, choices in variants.items():
        models = [network(channels, shape).to(device) for _ in range(members)]
        lower(models[0], choices)
        made[name] = taken = ratios(fused_step(models, inputs, targets, compiled), solo, rounds)
        print(f"  {name:8} {median(taken):6.2f} ({min(taken):.2f} to {max(taken):.2f})", flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="compile the fused step, one full graph")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="which of the cases")
    parser.add_argument("--json", type=Path, help="write every ratio of every round there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, {load}, torch {torch.__version__}")
    print(f"{options.members} members, {'compiled' if options.compiled else 'eager'}; one step in eager solo steps:")
    made = [measure(CASES[case], options.members, options.rounds, options.compiled) for case in options.cases]
    if options.json:
        named = {str(CASES[case]): ratio for case, ratio in zip(options.cases, made, strict=True)}
        options.json.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

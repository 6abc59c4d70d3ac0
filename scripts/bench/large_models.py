"""What measuring costs a large model.

ResNet-50 (23.5M weights) and a BERT-size transformer (109M), weights and gap on.

    python scripts/bench/large_models.py [--rounds 3] [--device cpu] [--batch 2] [--steps 6] [--json
        large.json]

Each variant runs in a process of its own, in turn: a bare loop, reglab with measuring off (between
the first and the last epoch), reglab with all of it. The models are those of timm and transformers
where these are installed, else equal ones of plain torch. *step* is the median from one optimizer
step to the next inside an epoch. *epoch* is what comes to that between two epochs: gap, weight
statistics, journal, checkpoints. *memory* is the peak over what the process held before the model,
in copies of the weights. On the CPU, seconds are processor time of one thread, on a GPU wall time.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from large_models_cases import CASES, Case
from overhead import machine
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import reglab
from reglab.measures import MeasureSettings
from reglab.training.measurement import Measurement

VARIANTS = ("bare", "off", "on")
EPOCHS = 4
FIGURES = ("step", "epoch", "gap", "weights", "memory")


class Stamps:
    """The moments after each optimizer step of this process, and what the parts of a measurement took."""

    def __init__(self, device: str) -> None:
        self.device, self.steps = device, [0.0]
        self.parts: dict[str, list[float]] = {"gap": [], "weights": []}
        register_optimizer_step_post_hook(lambda *_: self.steps.append(self.now()))
        for name in self.parts:
            setattr(Measurement, name, self._timed(name, getattr(Measurement, name)))

    def now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begin = self.now()
            found = function(*arguments)
            self.parts[name].append(self.now() - begin)
            return found

        return timed

    def figures(self, steps: int) -> dict[str, float]:
        """Return the seconds of a step, and of what lies between epochs, the first epoch left out."""
        taken = [after - before for before, after in zip(self.steps[1:], self.steps[2:], strict=False)][steps - 1 :]
        between, inside = taken[::steps], [each for place, each in enumerate(taken) if place % steps]
        parts = {name: median(values[1:]) if len(values) > EPOCHS else 0.0 for name, values in self.parts.items()}
        return {"step": median(inside), "epoch": median(between) - median(inside), **parts}


def bare(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, batch: int) -> None:
    """Train as a loop of plain PyTorch does."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(EPOCHS):
        order = torch.randperm(len(inputs), device=inputs.device)
        for rows in order.split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()


def one(case: Case, variant: str, device: str, batch: int, steps: int) -> dict[str, Any]:
    """Train in this process; return the figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stamps, before = Stamps(device), psutil.Process().memory_info().rss
    rows = -(-batch * steps * 5 // 3)
    data = reglab.dataset(case.inputs(rows), torch.arange(rows) % 2, split="random", task="classification")
    part = data.train
    assert len(part) == batch * steps, (len(part), batch, steps)
    model = case.model()
    if variant == "bare":
        bare(model.to(device), part.inputs.to(device), part.targets.to(device), batch)
    else:
        settings = MeasureSettings(every=1 if variant == "on" else 10**6)
        trainer = {"accelerator": "cpu" if device == "cpu" else "gpu", "devices": 1}
        reglab.fit(
            model, data, epochs=EPOCHS, batch_size=batch, optimizer="adam", lr=1e-4, measure=settings, trainer=trainer
        )
    weights = sum(weight.numel() for weight in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if device != "cpu":
        peak = torch.cuda.max_memory_allocated()
    return {**stamps.figures(steps), "memory": peak / (4 * weights), "size": weights, "source": case.source()}


def collect(rounds: int, words: list[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return the figures of each case and variant, one for each round."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {case: {variant: [] for variant in VARIANTS} for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--one", case, variant, *words]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[case][variant].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def table(case: str, found: dict[str, list[dict[str, Any]]]) -> Table:
    first = found["bare"][0]
    made = Table("variant", title=f"{case}: {first['size'] / 1e6:.1f}M weights, {first['source']}")
    for heading in ("step, s", "step, bare steps", "epoch, s", "of it gap, s", "weights, s", "memory, weights"):
        made.add_column(heading, justify="right")
    for variant, rounds in found.items():
        ratios = [own["step"] / base["step"] for own, base in zip(rounds, found["bare"], strict=True)]
        figures = {name: [each[name] for each in rounds] for name in FIGURES}
        cells = [_spread(figures["step"]), _spread(ratios)]
        cells += [_spread(figures[name]) for name in ("epoch", "gap", "weights", "memory")]
        made.add_row(variant, *cells)
    return made


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path, help="write all seconds to this file")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "VARIANT"), help="train in this process; print the figures")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(CASES[given.one[0]], given.one[1], given.device, given.batch, given.steps)))
        return
    words = ["--device", given.device, "--batch", str(given.batch), "--steps", str(given.steps)]
    found = collect(given.rounds, words)
    console = Console(width=140)
    for case, variants in found.items():
        console.print(table(case, variants))
    console.print(machine() | ({"gpu": torch.cuda.get_device_name()} if given.device == "cuda" else {}))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "found": found}))


if __name__ == "__main__":
    main()

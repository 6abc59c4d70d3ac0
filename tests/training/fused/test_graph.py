"""A traced step does what the function does, again and again."""

import logging

import pytest
import torch

from reglab.training.fused import graph
from reglab.training.fused.graph import Graph


def moved(state: dict[str, torch.Tensor], rate: torch.Tensor) -> torch.Tensor:
    state["sum"].add_(rate * state["slope"])
    return state["sum"].square().sum()


def state() -> dict[str, torch.Tensor]:
    return {"sum": torch.zeros(3), "slope": torch.arange(3.0)}


def test_tracing_changes_nothing_and_calls_change_in_place() -> None:
    ours, theirs = state(), state()
    run = Graph(moved, (ours, torch.tensor(0.5)))
    assert torch.equal(ours["sum"], torch.zeros(3))
    for rate in (0.5, 2.0, 0.25):
        assert torch.equal(run(ours, torch.tensor(rate)), moved(theirs, torch.tensor(rate)))
        assert torch.equal(ours["sum"], theirs["sum"])


def test_where_the_compiler_fails_the_trace_runs_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nand many more lines")

    monkeypatch.setattr("torch._inductor.compile", broken)
    ours = state()
    run = Graph(moved, (ours, torch.tensor(1.0)))
    with caplog.at_level(logging.WARNING):
        run.compile(run.flat((ours, torch.tensor(1.0))))
    assert [record.message for record in caplog.records if record.name == graph.__name__] == [
        "compiling failed (no C++ compiler); training goes on without it"
    ]
    assert float(run(ours, torch.tensor(1.0))) == 5.0

"""The compiled step takes over in the middle of training; a pack that goes on makes the same choice
at that step.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from reglab.config.pack_settings import PackSettings
from reglab.tracking import run_state
from reglab.training.fused import job
from reglab.training.fused.autotune import Choices, expected
from reglab.training.fused.graph import Graph
from reglab.training.fused.pack import Pack
from reglab.training.job_result import JobResult
from training.fused import test_resume as packs

READY = 10  # steps that are done when compiling is
TAKEN = 11  # where the chunk of steps ends that this one is in


class Beside:
    """Stands for a compilation in a child process; its compiled step moves a weight a little
    further: that shows.
    """

    ready, fails, steps = READY, False, 0
    started: list["Beside"]
    reason = "compiling took more than 7 s"

    def __init__(self, graphs: Sequence[tuple[Graph, list[torch.Tensor]]], seconds: float, modules: Sequence[str]):
        self.graphs, self.seconds, self.open = graphs, seconds, True
        self.started.append(self)

    @property
    def done(self) -> bool:
        return Beside.steps >= Beside.ready

    def wait(self) -> None:
        pass

    def load(self) -> bool:
        assert self.open
        if not Beside.fails:
            for graph, tensors in self.graphs:
                graph.adopt(_further(graph, len(graph._constants)), tensors)
        return not Beside.fails

    def close(self) -> None:
        self.open = False


def _further(graph: Graph, first_weight: int) -> Callable[..., Sequence[torch.Tensor]]:
    def run(*tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        answer: Sequence[torch.Tensor] = graph._trace(*tensors)
        tensors[first_weight].mul_(1.0001)
        return answer

    return run


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Beside]]:
    step = Pack.step

    def counted(pack: Pack, *arguments: Any) -> torch.Tensor:
        terms = step(pack, *arguments)
        Beside.steps = pack.done()
        return terms

    monkeypatch.setattr(Pack, "step", counted)
    monkeypatch.setattr("reglab.training.fused.pack.Compilation", Beside)
    monkeypatch.setattr(job, "choose", lambda *_: Choices(True, True, {}, 0.0, 0.0, 0.0, 0))
    Beside.ready, Beside.fails, Beside.steps, Beside.started = READY, False, 0, []
    yield Beside
    assert not any(each.open for each in Beside.started)


def run(composed: list[Any], folder: Path, compile_: bool | None = None) -> dict[int, JobResult]:
    results: dict[int, JobResult] = {}
    folders = [folder / str(number) for number in range(len(composed))]
    job.run_pack(composed, folders, PackSettings(compile_, 1, True, 7.0), None, results.__setitem__)
    return results


def killed(composed: list[Any], folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packs, "run", run)
        packs.killed(composed, folder, step, monkeypatch)


def tags(folder: Path) -> dict[str, str]:
    message = run_state.read_state(folder)
    assert message is not None
    return {key.removeprefix("reglab."): value for key, value in message.tags.items() if "compiled" in key}


def jobs(seconds: float = 0) -> list[Any]:
    return packs.configs(*packs.seeds(3, *packs.PLAIN), seconds=seconds)


@pytest.fixture
def taken_over(tmp_path: Path) -> tuple[Path, dict[int, JobResult]]:
    return tmp_path / "right", run(jobs(), tmp_path / "right")


def test_it_takes_over_where_it_is_ready_and_says_so(taken_over: tuple[Path, dict[int, JobResult]]) -> None:
    assert tags(taken_over[0] / "2") == {"compiled": "true", "compiled_from": str(TAKEN)}
    assert [(len(each.graphs), each.seconds) for each in Beside.started] == [(2, 7.0)]  # whole batch and last batch


@pytest.mark.parametrize("seconds, step", [(0, 5), (1e6, 12), (0, 30)])
def test_killed_before_and_after(
    seconds: float,
    step: int,
    taken_over: tuple[Path, dict[int, JobResult]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Beside.steps = 0
    killed(jobs(seconds), tmp_path / "mine", step, monkeypatch)
    Beside.steps = step // packs.AN_EPOCH * packs.AN_EPOCH if step < TAKEN else 0
    results = run(jobs(seconds), tmp_path / "mine")
    packs.assert_same(tmp_path / "mine", taken_over[0], results, taken_over[1])


def test_what_was_recorded_behind_the_checkpoint_is_repeated_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Beside.ready = 1000
    killed(jobs(1e6), tmp_path, 16, monkeypatch)  # its checkpoint is of step 0; epoch 2, of step 14, is recorded
    Beside.ready = Beside.steps = 0
    run(jobs(1e6), tmp_path)
    assert tags(tmp_path / "0")["compiled_from"] == "14"
    assert "was recorded as" not in caplog.text


def test_false_wins_over_what_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(jobs(), tmp_path, 16, monkeypatch)
    Beside.started.clear()
    with caplog.at_level(logging.WARNING):
        results = run(jobs(), tmp_path, compile_=False)
    message = [record.getMessage() for record in caplog.records if "compile=false" in record.getMessage()]
    assert message == ["compile=false: this pack was compiled until here, and rounds differently from here on"]
    assert [result.status for result in results.values()] == ["FINISHED"] * 3
    assert not Beside.started
    assert tags(tmp_path / "0")["compiled"] == "false"


def test_given_up_it_goes_on_as_it_was_also_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Beside.fails = True
    with monkeypatch.context() as patch:
        patch.setattr(job, "choose", lambda *_: Choices(False, False, {}, 0.0, 0.0, 0.0, 0))
        expected_ = run(jobs(), tmp_path / "right", compile_=False)
    assert not Beside.started
    with caplog.at_level(logging.WARNING):
        killed(jobs(), tmp_path / "mine", 20, monkeypatch)
    assert [record.getMessage() for record in caplog.records if "compiling" in record.getMessage()] == [
        "compiling took more than 7 s: the pack continues uncompiled"
    ]
    assert len(Beside.started) == 1
    packs.assert_same(tmp_path / "mine", tmp_path / "right", run(jobs(), tmp_path / "mine"), expected_)
    assert len(Beside.started) == 1
    assert tags(tmp_path / "mine" / "0") == {"compiled": "false", "compiled_from": str(TAKEN)}


def test_true_compiles_before_the_first_step(tmp_path: Path) -> None:
    run(jobs(), tmp_path, compile_=True)
    assert tags(tmp_path / "0") == {"compiled": "true"}
    assert len(Beside.started) == 1


def test_a_pack_that_became_smaller_is_compiled_anew(tmp_path: Path) -> None:
    rates = ("1", "0.3", "1", "1e-3", "2e-3")
    run(packs.configs(*(("optimizer.lr=" + lr, *packs.STOPPING) for lr in rates)), tmp_path)
    sizes = [each.graphs[0][1][0].shape[0] for each in Beside.started]
    assert sizes[0] == 5
    assert 2 in sizes


def test_the_expected_pace_counts_what_compiling_takes() -> None:
    assert expected(1.0, 10, 25.0) == 1.0  # over before it is compiled
    assert expected(1.0, 100, 25.0) == pytest.approx((25 + 2.5 + 75 * 0.4) / 100)


def test_true_that_takes_too_long_goes_on_uncompiled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Beside.fails = True
    with caplog.at_level(logging.WARNING):
        run(jobs(), tmp_path, compile_=True)
    assert "compiling took more than 7 s: the pack continues uncompiled" in caplog.messages
    assert tags(tmp_path / "0") == {"compiled": "false"}
    assert len(Beside.started) == 1

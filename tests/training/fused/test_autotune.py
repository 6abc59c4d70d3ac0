"""What is decided from timings; the timings themselves are given, so that no clock decides
a test.
"""

import fused_harness as fused
import pytest
import torch

from reglab.core.errors import Unfused
from reglab.training.fused import autotune
from reglab.training.fused.autotune import choose
from reglab.training.fused.pack import Pack

STEPS = 100  # of the harness's job


def pack(members: int = 3) -> Pack:
    made = Pack([fused.job(seed=number) for number in range(members)])
    made.to(torch.device("cpu"))
    return made


def given(monkeypatch: pytest.MonkeyPatch, step: float, solo: float) -> None:
    """Let a fused step and a solo step take these seconds."""
    monkeypatch.setattr(autotune, "seconds", lambda *_: solo)
    monkeypatch.setattr(autotune, "_compare", lambda *_: (step, solo))


def test_short_jobs_go_one_by_one_before_anything_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, step=1e-4, solo=1e-3)
    few = pack()
    with pytest.raises(Unfused, match=r"would not be quicker: about .* s for 3 jobs") as refused:
        choose(few, None)
    assert refused.value.groups == ()  # each by itself
    assert not few._graphs


def test_a_fused_step_that_takes_longer_than_the_members_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, step=0.5, solo=0.1)
    with pytest.raises(Unfused, match=r"would not be quicker: about 50\.0 s for 3 jobs, 31\.2 s one by one"):
        choose(pack(), compile_=False)
    assert choose(pack(), compile_=False, always=True).step == 0.5


def test_it_is_compiled_where_the_steps_to_come_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = autotune.WORTH_COMPILING / STEPS
    given(monkeypatch, step=1.1 * worth, solo=worth)
    assert choose(pack(), None).compiled
    assert not choose(pack(), compile_=False).compiled
    given(monkeypatch, step=0.9 * worth, solo=worth)
    assert not choose(pack(), None).compiled
    assert choose(pack(), compile_=True).compiled


@pytest.mark.parametrize("compiles", [True, False])
def test_where_only_a_compiled_step_pays_it_is_compiled_first(compiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, step=0.5, solo=0.1)  # 0.1 also once it is compiled: three members alone take 0.3

    def compile_(made: Pack) -> None:
        made.compiled = compiles

    monkeypatch.setattr(Pack, "compile", compile_)
    if compiles:
        chosen = choose(pack(), None)
        assert (chosen.compiled, chosen.ready, chosen.step) == (True, True, 0.1)
    else:
        monkeypatch.setattr(autotune, "seconds", lambda run, *_: 0.5 if "_on_a_copy" in run.__qualname__ else 0.1)
        with pytest.raises(Unfused, match="would not be quicker"):
            choose(pack(), None)


def test_what_memory_does_not_hold_comes_apart_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, step=0.1, solo=0.1)
    monkeypatch.setattr(autotune, "free_memory", lambda device: 10_000)
    with pytest.raises(Unfused, match=r"5 members need .* GB of memory") as refused:
        choose(pack(5), None, always=True)
    assert refused.value.groups == ((0, 1), (2, 3, 4))

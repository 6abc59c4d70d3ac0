"""scripts/bench/gpu_check on a CPU, small: a part is done in a process of its own, kept, and not done again."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    import gpu_check

    return gpu_check


def test_a_part_is_done_once_and_the_budget_is_kept(
    gpu_check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*words: str) -> tuple[int, str]:
        told = ["gpu_check", "--device", "cpu", "--quick", "--folder", str(tmp_path), *words]
        monkeypatch.setattr(sys, "argv", told)
        return gpu_check.main(), capsys.readouterr().out

    code, said = check("fsdp")
    found = json.loads((tmp_path / "fsdp.json").read_text())
    assert code == 0
    assert "FSDP2, one rank / alone, 64-true" in said
    assert "over NCCL were never tried" in said
    assert [float(figure) for _, figure, _ in found["rows"]] == pytest.approx([0, 0], abs=1e-6)
    code, said = check("fsdp", "pack 2", "--budget", "1")  # the one is kept, for the other no time is left
    assert code == 1
    assert "FSDP2, one rank / alone, 64-true" in said
    assert "pack 2: not begun" in said
    assert json.loads((tmp_path / "fsdp.json").read_text()) == found
    (tmp_path / "fsdp.json").write_text(json.dumps({**found, "setting": {**found["setting"], "torch": "1.0"}}))
    code, said = check("fsdp", "--budget", "1")  # another torch's figure is no answer
    assert code == 1
    assert "fsdp: not begun" in said

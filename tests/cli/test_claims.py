"""``reglab claims``: verdicts in the terminal, the page, and words that cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest

from reglab.api.claims import run
from reglab.cli.command import main
from reglab.cli.completion import CLAIMS, complete


def test_claims_are_completed() -> None:
    assert tuple(run.CLAIMS) == CLAIMS
    assert complete("reglab claims l1", []) == ["l1_zeros"]
    assert complete("reglab claims gap rep", []) == ["repetitions="]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, claim in run.CLAIMS.items():
        monkeypatch.setitem(run.CLAIMS, name, replace(claim, setup=replace(claim.setup, epochs=2)))


@pytest.mark.usefixtures("quick")
def test_a_claim_is_answered_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "l1_zeros", "repetitions=2", "out=found.html"]) == 0
    said = capsys.readouterr().out
    assert "Does L1 give exact zeros, and find the true features?" in said
    assert "found.html: figures, and how it was measured" in said
    assert "repetitions=2" in Path("found.html").read_text(encoding="utf-8")
    assert main(["claims", "l1_zeros", "repetitions=2", "out=found.html"]) == 0  # a page of claims is written again


@pytest.mark.usefixtures("quick")
def test_the_counterexample_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "l1_zeros", "repetitions=2", "counterexample=true"]) == 0
    assert "supported" in capsys.readouterr().out
    assert "All 100 inputs matter" in Path("claims.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["l1_zero"], "there is no claim 'l1_zero': did you mean 'l1_zeros'"),
        (["gap", "repetitions=1"], "repetitions=1: an interval needs at least 2"),
        (["gap", "repetitions=many"], "repetitions=many must be a number, such as repetitions=10"),
        (["gap", "counterexample=yes"], "counterexample=yes must be true or false"),
        (["gap", "seeds=3"], "seeds is not a setting of this command"),
        (["gap", "out=."], "out=. is a folder: give the name of a file"),
        (["gap", "out=claims.txt"], "out=claims.txt: let its name end in .html"),
        (["gap", "out=nowhere/claims.html"], "there is no folder nowhere: make it first"),
        (["gap", "out=mine.html"], "mine.html is there already, and is no page of claims"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_trained(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.html").write_text("<p>a page of mine</p>", encoding="utf-8")
    monkeypatch.setattr(run, "train", None)
    assert main(["claims", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert Path("mine.html").read_text(encoding="utf-8") == "<p>a page of mine</p>"


@pytest.mark.usefixtures("quick")
def test_ctrl_c_ends_it_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    assert main(["claims", "gap"]) == 130
    assert capsys.readouterr().err.strip().endswith("reglab: interrupted")
    assert not Path("claims.html").exists()

"""Every folder of ``corpus`` is what a stranger could send: refused in one sentence, nothing imported, nothing changed.

``case.yaml`` has the command that somebody gives in the folder, and what is said to it. Beside the case's files there
are a file ``precious`` and a package ``stranger``, which leaves a file ``ran`` when it is imported. A new case is a
new folder.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from reglab.cli import command
from reglab.config import trust

CORPUS = Path(__file__).parent / "corpus"
STRANGER = """
open("ran", "w").close()
from torch import nn
class Net(nn.Linear):
    pass
"""
CASES = sorted(path.parent.name for path in CORPUS.glob("*/case.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Return a working folder with the case's files and one that is precious; a received run has its records."""
    here = tmp_path / "here"
    shutil.copytree(CORPUS / request.param, here)
    (here / "precious").write_text("precious")
    for place in ("stranger", "received/stranger"):
        if (here / place).parent.is_dir():
            (here / place).mkdir()
            (here / place / "__init__.py").write_text(STRANGER)
    if (received := here / "received").is_dir():
        identity = {"run_id": "a" * 32, "name": "theirs", "uri": f"sqlite:///{here}/reglab.db", "artifacts": None}
        (received / "run.json").write_text(json.dumps(identity))
        tags = {"reglab.working_folder": str(here), "reglab.fingerprint": "1"}
        (received / "journal.jsonl").write_text(json.dumps({"tags": tags}) + "\n")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return here


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files but those of reglab's own, of a run or sweep that is refused late."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    own = ("runs", "reglab.db", ".reglab.db")
    return {str(name): path.read_bytes() for name, path in files.items() if not name.parts[0].startswith(own)}


def test_there_are_many() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_it_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, before = yaml.safe_load((folder / "case.yaml").read_text()), contents(folder)
    with trust.isolated():
        code = command.main(shlex.split(case["command"]))
    said = capsys.readouterr().err
    assert code == 2, said
    assert re.search(case["says"], said), said
    assert len(said.splitlines()) == 1
    assert contents(folder) == before

"""The lock and its audit: what is refused, and that no answer is never taken for a good one."""

import itertools
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
HASH = "--hash=sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def audit(tmp_path):
    """Return a function that audits a lock's text, with a pretended pip-audit that prints the given answer."""
    (tmp_path / "pip_audit.py").write_text("import os\nprint(os.environ['ANSWER'])\n")
    lock = tmp_path / "some.lock"

    def run(text, answer=None):
        lock.write_text(text)
        told = json.dumps({"dependencies": answer}) if answer is not None else ""
        command = [sys.executable, str(ROOT / "scripts/locking/audit.py"), str(lock)]
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "ANSWER": told}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


@pytest.mark.parametrize(
    "line, message",
    [
        ("idna==3.20", "no hash"),
        ("idna==3.20 --hash=md5:d41d8cd98f00b204e9800998ecf8427e", "a hash that is no SHA-256"),
        (f"idna>=3.20 {HASH}", "is not 'name==version'"),
        (f"idna @ file:///tmp/idna.whl {HASH}", "is not 'name==version'"),
        (f"git+ssh://somewhere/idna {HASH}", "is not 'name==version'"),
        ("--extra-index-url file:///tmp", "is not 'name==version'"),
        (f"lightning==2.6.3 {HASH}", "GHSA-w37p-236h-pfx3"),
        (f"PyTorch_Lightning==2.6.5 {HASH}", "CVE-2026-58659"),
        (f"mlflow==3.17.1 \\\n    {HASH}", "mlflow<3.17.2"),
        (f"torch==2.5.1+cpu ; sys_platform == 'linux' {HASH}", "CVE-2025-32434"),
        ("# nothing", "0 findings"),
    ],
)
def test_what_a_lock_must_not_hold_is_named(audit, line, message):
    done = audit(f"# [run]\n{line}\n", answer=[])
    assert done.returncode == 1
    assert message in done.stderr


CLEAN = {"name": "idna", "version": "3.20", "vulns": []}
SKIPPED = {"name": "idna", "skip_reason": "not found"}
HURT = CLEAN | {"vulns": [{"id": "PYSEC-1", "fix_versions": ["3.21"]}]}


@pytest.mark.parametrize(
    "answer, code, message",
    [
        ([CLEAN], 0, "audited: no known vulnerability"),
        ([HURT], 1, "idna==3.20: PYSEC-1, fixed in 3.21"),
        ([SKIPPED], 3, "NOT AUDITED: of 1 packages the databases of advisories answered for 0"),
        (None, 3, "NOT AUDITED"),
    ],
    ids=["clean", "vulnerable", "unknown to the database", "no database"],
)
def test_only_an_answer_for_every_package_counts_as_audited(audit, answer, code, message):
    done = audit(f"idna==3.20 {HASH}\n", answer)
    assert done.returncode == code, done.stderr
    assert message in done.stdout + done.stderr


def test_the_project_lock_keeps_its_own_rules(audit):
    done = audit((ROOT / "requirements.lock").read_text())
    # The pretended pip-audit knows nothing; all else is well.
    assert done.returncode == 3, done.stderr


def test_the_lock_holds_what_the_project_asks_for():
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            pin = Requirement(line.removesuffix("\\"))
            (exact,) = pin.specifier
            pins.setdefault(canonicalize_name(pin.name), []).append(exact.version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = itertools.chain(*project["project"]["optional-dependencies"].values())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], *extras, "pip-audit"]
    for requirement in map(Requirement, wanted):
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not locked: run scripts/lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run scripts/lock"
    cpu, common = pins["torch"]
    assert cpu == f"{common}+cpu"

"""Check a lock against its own rules, against advisories.txt, and against the advisories that pip-audit can reach.

usage: audit.py [lock]      Exit code: 0 audited and clean, 1 something is wrong, 3 clean as far as
known, not audited
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lockfile import Line, canonical, read
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ADVISORIES = Path(__file__).with_name("advisories.txt")
NOT_AUDITED = 3
# pip-audit's names for the two databases that it can ask.
SERVICES = ("pypi", "osv")


def broken(line: Line) -> str | None:
    """Return what is wrong with how a line is written, or None."""
    if not line.pin:
        return f"{line.requirement!r} is not 'name==version': write it anew with scripts/lock"
    wrong = [each for each in line.hashes if not re.fullmatch("sha256:[0-9a-f]{64}", each)]
    if wrong or not line.hashes:
        return f"{line.requirement} has {'a hash that is no SHA-256' if wrong else 'no hash'}: run scripts/lock"
    return None


def known(name: str, version: str) -> Iterator[str]:
    """Yield the advisories of advisories.txt that hold for a version."""
    for row in ADVISORIES.read_text().splitlines():
        advice, _, why = row.partition("#")
        if advice.strip():
            affected = Requirement(advice)
            if canonical(affected.name) == canonical(name) and affected.specifier.contains(version, prereleases=True):
                yield f"{name}=={version} ({advice.strip()}): {why.strip()}"


def answers(service: str, pins: set[tuple[str, str]]) -> tuple[list[str], int]:
    """Return what a database of advisories says of the pins, and for how many of them it said anything."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins)))
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--requirement", str(wanted)]
        command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return [], 0
    try:
        told = json.loads(done.stdout)["dependencies"]
    except ValueError:  # it prints no JSON where the database cannot be reached
        return [], 0
    found = [
        f"{each['name']}=={each['version']}: {bug['id']}, fixed in {', '.join(bug['fix_versions']) or 'no version yet'}"
        for each in told
        for bug in each.get("vulns", [])
    ]
    # A package that the database does not know is "skipped", and pip-audit would call it clean.
    return found, sum("skip_reason" not in each for each in told)


def main() -> int:
    """Print what is wrong with the lock; return the exit code."""
    lock = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "requirements.lock"
    lines = read(lock.read_text())
    wrong = [problem for line in lines if (problem := broken(line))]
    # A local label such as +cpu names a build, not a version that advisories would know.
    pins = {(canonical(line.pin["name"]), line.pin["version"].partition("+")[0]) for line in lines if line.pin}
    wrong += [advisory for pin in sorted(pins) for advisory in known(*pin)]
    answered = 0
    for service in SERVICES:
        found, count = answers(service, pins)
        wrong += found
        answered = max(answered, count)
        if answered == len(pins):
            break
    for problem in wrong:
        print(f"scripts/audit: {problem}", file=sys.stderr)
    if wrong or not pins:
        print(f"scripts/audit: {lock.name} is not fit to install from: {len(wrong)} findings", file=sys.stderr)
        return 1
    print(f"{lock.name}: {len(pins)} packages, every file with its hash, none in advisories.txt")
    if answered < len(pins):
        print(
            f"NOT AUDITED: of {len(pins)} packages the databases of advisories answered for {answered}; what was "
            "published since advisories.txt was written is not known here. Run scripts/audit where they can be reached",
            file=sys.stderr,
        )
        return NOT_AUDITED
    print("audited: no known vulnerability")
    return 0


if __name__ == "__main__":
    sys.exit(main())

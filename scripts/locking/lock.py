"""Write requirements.lock: every version that reglab is tested with, and the hashes of all their files.

Pins stay as they are while pyproject.toml allows them. Arguments go to uv: ``--upgrade-package
mlflow``, ``--upgrade``.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from lockfile import Line, canonical, read

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
# pip asks for these two where it builds antlr4-python3-runtime (of omegaconf) and reglab itself.
BUILDERS = ("setuptools", "editables")

ABOUT = {
    "build": "what builds a package from its sources",
    "torch-cpu": "torch without CUDA, from an index that offers it: for machines without an NVIDIA driver",
    "torch": "torch as the common index has it",
    "cuda": "what that build needs on Linux",
    "run": "what reglab needs",
}
HEAD = """\
# The versions that reglab was tested with, and the hashes of all their files. Made by scripts/lock, used section by
# section by scripts/setup, checked by scripts/audit. Do not edit.
"""


def compiled(*arguments: str, pins: str, folder: Path) -> list[Line]:
    """Return what uv resolves for every platform and every Python from 3.11, near the versions in ``pins``."""
    out = folder / "resolved.txt"
    out.write_text(pins)
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--no-header"]
    command += ["--no-annotate", "--output-file", str(out), *arguments]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(code)
    return read(out.read_text())


def versions(lines: list[Line]) -> str:
    """Return the pins without hashes, as uv takes them."""
    return "".join(f"{line.requirement}\n" for line in lines)


def cpu_builds(old: list[Line], torch: Line) -> list[Line]:
    """Return the hashes of torch's CPU builds that the lock has already, as long as they are of this version.

    They are on PyTorch's own index alone, which scripts/lock does not ask.
    """
    wanted = f"{torch.requirement}+cpu"
    kept = [line for line in old if line.section == "torch-cpu" and line.requirement.partition(" ;")[0] == wanted]
    if not kept:
        print(
            f"scripts/lock: write the hashes of {wanted} (PyTorch's own index lists them) into section [torch-cpu] of "
            "requirements.lock; until then machines without a GPU take the build with CUDA",
            file=sys.stderr,
        )
    return kept


def sections(old: list[Line], upgrades: list[str], folder: Path) -> dict[str, list[Line]]:
    """Return the lines of each section; a distribution stands in the first section that needs it."""
    project = tomllib.loads(PROJECT.read_text())
    extras = list(project["project"]["optional-dependencies"])
    builders = folder / "build.in"
    builders.write_text("\n".join([*project["build-system"]["requires"], *BUILDERS]))
    everything = [str(PROJECT), str(builders), *(f"--extra={extra}" for extra in extras)]
    pins = versions([line for line in old if line.section != "torch-cpu"])
    lines = {
        canonical(line.requirement.partition("==")[0]): line
        for line in compiled(*everything, "--generate-hashes", *upgrades, pins=pins, folder=folder)
    }

    def taken(*inputs: str) -> list[Line]:
        found = compiled(*inputs, pins=versions(list(lines.values())), folder=folder)
        names = {canonical(line.requirement.partition("==")[0]) for line in found}
        return [line for name, line in sorted(lines.items()) if name in names]

    build = taken(str(builders))
    needed = [line for line in taken(str(PROJECT)) if line not in build]
    torch = [lines["torch"]]
    cuda = [line for line in needed if line.requirement.startswith(("nvidia-", "cuda-", "triton=="))]
    run = [line for line in needed if line not in torch + cuda]
    found = {"build": build, "torch-cpu": cpu_builds(old, torch[0]), "torch": torch, "cuda": cuda, "run": run}
    for extra in extras:
        found[extra] = [line for line in taken(str(PROJECT), f"--extra={extra}") if line not in build + needed]
    return found


def main() -> None:
    """Write the lock anew."""
    old = read(LOCK.read_text())
    with tempfile.TemporaryDirectory() as folder:
        found = sections(old, sys.argv[1:], Path(folder))
    blocks = [
        f"\n# [{name}] {ABOUT.get(name, f'what the extra {name!r} adds')}\n" + "".join(f"{line}\n" for line in lines)
        for name, lines in found.items()
    ]
    LOCK.write_text(HEAD + "".join(blocks))


if __name__ == "__main__":
    main()

"""What answers at once imports next to nothing."""

import subprocess
import sys

import pytest

_HEAVY = {"torch", "pytorch_lightning", "mlflow", "hydra", "omegaconf", "rich", "pandas", "numpy"}


@pytest.mark.parametrize(
    "words", [["--help"], [], ["train", "--help"], ["completion", "query", "reglab train optimizer.l"], ["--version"]]
)
def test_nothing_heavy_is_imported(words):
    program = f"import sys\nfrom reglab.cli.command import main\nmain({words})\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout
    assert not _HEAVY & set(done.stderr.split())

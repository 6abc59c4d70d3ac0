"""What a file of somebody else's could bring into a composed configuration, and must not."""

from pathlib import Path

import pytest

from reglab.cli import train
from reglab.core.errors import UserError


def test_a_file_cannot_say_whom_to_trust(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text("# @package _global_\ntrust: [lurking]\n")
    with pytest.raises(UserError, match="is set in a file"):
        train.train(["--config-dir", str(tmp_path), "experiment=evil", "tracking=none"])


@pytest.mark.parametrize(
    "word, message",
    [
        ("+hydra.job.env_set.REGLAB_TRUST=lurking", "in your own environment"),
        ("+hydra.job.env_set.PYTHONPATH=/x", "in your own environment"),
        ("hydra.job_logging.handlers.file.filename=.bashrc", "in the run's own folder"),
        ("hydra.job_logging.handlers.console.class=logging.handlers.SocketHandler", "logging handlers may only be"),
    ],
)
def test_a_configuration_writes_nowhere_else_and_sets_no_guarded_variable(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train.train([word, "tracking=none"])

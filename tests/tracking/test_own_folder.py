from pathlib import Path

import pytest

from reglab.core.atomic_write import partial
from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.folder import Identity, write_identity
from reglab.tracking.own_folder import check_own_folder


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints", "notes.txt", "earlier-1", ".bashrc", "rank"])
def test_a_folder_with_others_files_is_refused_until_a_run_is_in_it(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"^hydra\.run\.dir: .* holds '{name}', which no run of reglab wrote"):
        check_own_folder(tmp_path, "hydra.run.dir", (".hydra", "reglab.log"))
    write_identity(tmp_path, Identity("a" * 32, "mine", None, None))
    check_own_folder(tmp_path, "hydra.run.dir")


def test_new_folders_and_what_a_crash_left_at_the_start_pass(tmp_path):
    for name in ("new", "empty", "crashed"):
        check_own_folder(tmp_path / name, "hydra.run.dir")
        (tmp_path / name).mkdir()
    for name in (
        ".hydra",
        "reglab.log",
        "run.lock",
        "start.json",
        "journal.jsonl",
        "rank1",
        partial(Path("run.json")).name,
    ):
        (tmp_path / "crashed" / name).mkdir()
    check_own_folder(tmp_path / "crashed", "hydra.run.dir", (".hydra", "reglab.log"))


def test_a_link_is_the_folder_that_it_leads_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(UserError, match=r"holds 'config\.yaml'"):
        check_own_folder(tmp_path / "link", "hydra.run.dir")


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints", "metrics.parquet"])
def test_no_run_is_opened_over_others_files(tmp_path, name):
    (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    settings = TrackingSettings.from_config({"name": "none", "experiment": "it"})
    with pytest.raises(UserError, match=f"holds '{name}', which no run"):
        open_run(settings, name="it", folder=tmp_path, config={"seed": 0}, params={}, tags={})
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "run.lock"] == before
